"""Encoded bytes to the pixels a model takes: what its processor would do, bit for bit."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images import tiff
from worker.images.inspection import Header, inspect_image
from worker.images.limits import check_size
from worker.images.memory_budget import BUDGET_BYTES, CORES, MemoryBudget
from worker.images.pillow import open_image

#: Images being decoded at once: more than the cores would only hold more memory.
_decoding = threading.BoundedSemaphore(CORES)
#: For who says no other: an image that needs more by itself waits until it is alone.
_ROOM: Final = MemoryBudget(BUDGET_BYTES)

#: Pixels that are converted at once where that takes several copies.
STRIP_PIXELS: Final = 1 << 19
#: Copies of a strip, of 4 bytes a pixel.
STRIP_COPIES: Final = 6

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes for one model. `size` is the side of its square input, in pixels.

    With `draft`, a JPEG is decoded at no less than so many times that size, by the scaling that is
    part of its decoding: faster, and not what the processor computes (benchmarks/jpeg_draft.py).
    """

    size: int
    resample: int
    max_pixels: int
    draft: int = 0
    room: MemoryBudget = field(default=_ROOM, compare=False)

    def decode(self, encoded: bytes) -> bytes:
        """RGB as uint8, rows of pixels, size * size * 3 bytes; raises Refused.

        Of an animation the first frame; EXIF rotation applied; transparency on white.
        """
        if not encoded:
            raise ItemRejected(ErrorCode.IMAGE_INVALID, "the image is empty (0 bytes)")
        try:
            return self._decode(encoded, inspect_image(encoded, self.max_pixels))
        except ItemRejected:
            raise
        except MemoryError:
            about = "the image does not fit into memory"
            raise ItemRejected(ErrorCode.IMAGE_TOO_LARGE, about) from None
        except Exception as error:
            # Pillow's decoders raise whatever a broken file drives them to.
            about = f"the image cannot be decoded: {error}"
            raise ItemRejected(ErrorCode.IMAGE_INVALID, about) from None

    def _decode(self, encoded: bytes, header: Header) -> bytes:
        # Opening takes little memory, but time as well.
        with _decoding:
            opened = open_image(header.format, encoded)
        with opened as image:
            check_size(*image.size, self.max_pixels)
            if self.draft:
                image.draft(None, (self.draft * self.size,) * 2)
            with self.room.of(_needed_bytes(image, header)), _decoding:
                try:
                    return self._pixels(image)
                finally:
                    # Before others may have the room.
                    image.close()

    def _pixels(self, image: ImageFile) -> bytes:
        image.load()
        upright = _upright(image)
        if upright is not image:
            image.close()
        square = (self.size, self.size)
        return _to_rgb(upright).resize(square, Image.Resampling(self.resample)).tobytes()


def _needed_bytes(image: ImageFile, header: Header) -> int:
    """What decoding takes at its peak; measured in tests/images/test_hostile_images.py."""
    stored = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}.get(image.mode, 4)
    # As it is stored, and once more as RGB or turned.
    each = stored + 4
    if header.format == "JPEG" and image.mode == "RGB" and _orientation(image.info) == 1:
        # Most are of this kind.
        each = stored
    if header.format == "WEBP":
        # Two frames of its own, what they are made from, and the copy that Pillow reads.
        each += 16
    elif header.format == "TIFF" or header.progressive:
        # A strip may be all of it; coefficients wait for the last scan.
        each += 8
    elif header.animated:
        each += 8
    pixels = image.width * image.height
    return pixels * each + min(pixels, STRIP_PIXELS) * STRIP_COPIES * 4


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data says, or its XMP; Pillow has turned a TIFF already."""
    if isinstance(image, TiffImageFile):
        return image
    turn = _TURNS.get(_orientation(image.info))
    return image if turn is None else image.transpose(turn)


def _orientation(info: Mapping[Any, Any]) -> int:
    exif = info.get("exif")
    if exif is None and (raw := info.get("Raw profile type exif")):
        # As ImageMagick writes it: three lines, then hexadecimal digits.
        exif = bytes.fromhex("".join(raw.split("\n")[3:]))
    if (turned := tiff.orientation(exif or b"")) != 1:
        return turned
    text = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
    xmp = text.encode(errors="replace") if isinstance(text, str) else text
    found = re.search(rb'tiff:Orientation(?:="|>)([0-9])', xmp)
    return int(found[1]) if found else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _in_strips(image, _to_8_bits(image))
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        return _in_strips(image, _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _in_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """What a conversion of each pixel by itself makes, without whole copies on the way."""
    whole: Image.Image | None = None
    for top, strip in _strips(image):
        converted = convert(strip)
        if converted.size == image.size:
            return converted
        whole = whole or Image.new("RGB", image.size)
        whole.paste(converted, (0, top))
    assert whole is not None
    return whole


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Each with its place."""
    rows = max(1, STRIP_PIXELS // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _to_8_bits(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Of 16 bits and more for each pixel: Pillow's own conversion would clip, not scale."""
    brightest: Any = max(strip.convert("F").getextrema()[1] for _, strip in _strips(image))
    # 16 bits are the usual depth; only a file that exceeds them is scaled by its content.
    scale = 255 / max(65535.0, brightest if math.isfinite(brightest) else 0.0)

    def convert(strip: Image.Image) -> Image.Image:
        grey = strip.convert("F").point(lambda value: value * scale).convert("L")
        return _on_white(grey) if grey.info.get("transparency") is not None else grey.convert("RGB")

    return convert
