"""Images of a sheet: where they are, and their thumbnails as data URLs."""

from __future__ import annotations

import base64
import io
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from ..errors import InvalidInput
from ..extras import install_command
from ..image_sources.image_bytes import ImageBytes
from ..image_sources.picture import Locator, path_from
from ..ledger import data_url

if TYPE_CHECKING:
    from PIL.Image import Image

#: JPEG quality of a thumbnail.
_QUALITY: Final = 75
#: Maximum pixels of an image: 16 bytes of memory each while it is scaled.
_MAX_PIXELS: Final = 100_000_000
_MAX_DATA_BYTES: Final = 32 * 1024 * 1024
#: Formats that are opened; others, such as PostScript, run programs. Pillow opens MPO as JPEG.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
#: References that are no paths.
_URL: Final = re.compile(r"(?:https?|s3|gs)://|blob:", re.IGNORECASE)
#: Thumbnails under way for each thread.
_AHEAD: Final = 8


class ImageFolders:
    """Folders below which relative paths of images are looked up, in order."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders

    def find(self, image: str | None) -> str | None:
        """Return the path of an image's file; None if there is none.

        Files may be named like references, as ``s3:cat.jpg``: a file of the whole name comes first.
        """
        if image is None or data_url.contains_data(image):
            return None
        for path in dict.fromkeys((image, image.removeprefix("file:"))):
            for folder in self._folders:
                candidate = path_from(folder, path)
                if os.path.isfile(candidate):
                    return os.path.abspath(candidate)
        return None


def link_to(image: str | None, path: str | None, base: str) -> str | None:
    """Return the URL of an image for a page in the folder `base`; None if there is none.

    Only paths and HTTP URLs become links, never another scheme.
    """
    if path is not None:
        return quote(os.fsencode(os.path.relpath(path, base)))
    if image is not None and image.lower().startswith(("http://", "https://")):
        return image
    return None


def located_image(locator: Locator, reader: ImageBytes) -> tuple[str | None, str | None]:
    """Return an image as `thumbnails` takes it; a part of a file or an object as a data URL."""
    if locator.kind == "url":
        return locator.address, None
    if locator.kind == "file":
        return locator.address, locator.address if os.path.isfile(locator.address) else None
    try:
        image = reader.read(locator)
    except InvalidInput:
        return locator.address, None
    if isinstance(image, str):
        return image, None
    data = base64.b64encode(image).decode()
    return f"data:application/octet-stream;base64,{data}", None


def thumbnails(
    images: Iterable[tuple[str | None, str | None]], size_px: int, threads: int
) -> Iterator[str]:
    """Yield a data URL for each (image, path), or ``!`` and the reason why there is none.

    The longer side has `size_px` pixels. Raises InvalidInput if Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InvalidInput(
            f"thumbnails need Pillow: {install_command('sheet')}, or choose --thumbnails link"
        ) from None
    # For all threads: `catch_warnings` in one would restore the filter under another.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # Registers the formats: Pillow may be built without some of them.
    Image.init()
    source = iter(images)
    with ThreadPoolExecutor(threads) as pool:

        def submit(count: int) -> list[Future[str]]:
            return [pool.submit(_thumbnail, *pair, size_px) for pair in islice(source, count)]

        pending = submit(threads * _AHEAD)
        while pending:
            yield pending.pop(0).result()
            pending += submit(1)


def _thumbnail(image: str | None, path: str | None, size_px: int) -> str:
    from PIL import Image, ImageOps

    file: str | io.BytesIO
    if path is not None:
        file = path
    elif image is not None and data_url.contains_data(image):
        try:
            file = io.BytesIO(data_url.decode(image, _MAX_DATA_BYTES))
        except InvalidInput as error:
            return f"!{error}"
    elif image is not None and _URL.match(image):
        return "!not a local file"
    else:
        return "!no file of this name" if image else "!the output names no image"
    try:
        with Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN]) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                return f"!more than {_MAX_PIXELS:,} pixels"
            # Decoding a JPEG at a fraction of its size is several times as fast.
            picture.draft("RGB", (size_px, size_px))
            # Pillow neither scales 16-bit grey nor converts it to 8 bits.
            small = _with_8_bits(picture) if picture.mode.startswith("I") else picture
            small.thumbnail((size_px, size_px))
            return _encoded(ImageOps.exif_transpose(small))
    except Exception as error:
        # Decoders raise many kinds of errors for damaged files.
        return f"!not a readable image ({type(error).__name__})"


def _with_8_bits(picture: Image) -> Image:
    return picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")


def _encoded(picture: Image) -> str:
    from PIL.Image import new

    if picture.mode in ("RGBA", "LA", "PA", "P"):
        layer = picture.convert("RGBA")
        picture = new("RGB", layer.size, "white")
        picture.paste(layer, mask=layer)
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
