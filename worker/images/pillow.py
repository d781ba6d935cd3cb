"""Pillow as strangers' files may use it: seven formats, and nothing said about them in the log."""

from __future__ import annotations

import ctypes
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from PIL import Image, PngImagePlugin, _imaging
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from producer.contract import ErrorCode
from worker.errors import ItemRejected

# Sizes are checked in worker.images.inspection, against a bound of our own; Pillow's would only add a
# warning.
Image.MAX_IMAGE_PIXELS = None
#: Bytes of text in a PNG: none of it is ever looked at, except for how the picture is turned.
PngImagePlugin.MAX_TEXT_MEMORY = 8 * 1024 * 1024

#: Bytes and pixels of a file whose decoder is a loop in Python (BMP with run lengths, PPM as
#: text): enough for what such files are used for, and done in seconds.
SLOW_BYTES: Final = 4 * 1024 * 1024
SLOW_PIXELS: Final = 4_000_000
SLOW_SIDE: Final = 16_384
SLOW_COMMENTS: Final = 1000
#: Bytes from which memory is given back as soon as it is free. Without it each thread keeps what
#: it had for its largest picture, and nobody else may have it.
GIVEN_BACK: Final = 4 * 1024 * 1024
#: What glibc calls that (malloc.h).
_M_MMAP_THRESHOLD: Final = -3
_SLOW_CODECS: Final = ("bmp_rle", "ppm", "ppm_plain")


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        # Nobody asks for the resolution, and reading it reads all that the EXIF data claims.
        pass


_OPENERS: Final[Mapping[str, Callable[[io.BytesIO], ImageFile]]] = {
    "JPEG": _Jpeg,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "PPM": PpmImageFile,
}


def open_image(form: str, encoded: bytes) -> ImageFile:
    """Not decoded yet; raises Refused for what would take too long, and whatever Pillow raises.

    The format is known already: to try one after the other would add nothing.
    """
    image = _OPENERS[form](io.BytesIO(encoded))
    if any(tile.codec_name in _SLOW_CODECS for tile in image.tile):
        _check_slow(image, encoded)
    return image


def _check_slow(image: ImageFile, encoded: bytes) -> None:
    width, height = image.size
    if (
        len(encoded) > SLOW_BYTES
        or width * height > SLOW_PIXELS
        or max(width, height) > SLOW_SIDE
        or encoded.count(b"#") > SLOW_COMMENTS
    ):
        about = "too large for this kind of PPM or BMP: save it without run lengths, or as a PNG"
        raise ItemRejected(ErrorCode.IMAGE_TOO_LARGE, about)


def _be_quiet() -> None:
    """What is odd about a stranger's file is for its own error, not for the worker's log."""
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # libtiff writes to stderr itself; Pillow offers no way to tell it not to.
    with suppress(OSError, AttributeError):
        libtiff = ctypes.CDLL(_imaging.__file__)
        libtiff.TIFFSetErrorHandler(None)
        libtiff.TIFFSetWarningHandler(None)


def _give_memory_back() -> None:
    # Other C libraries have no such call, and most of them no such habit.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, GIVEN_BACK)


_be_quiet()
_give_memory_back()
