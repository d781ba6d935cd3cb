"""Pillow, restricted for untrusted files: few formats, no slow codecs, and no log output."""

from __future__ import annotations

import ctypes
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.completeness import FilledPng
from worker.images.heif_images import open_avif, open_heif
from worker.images.ppm import ScaledPpm

# worker.images.inspection checks sizes; Pillow's own limit would only add a warning.
Image.MAX_IMAGE_PIXELS = None

#: Maximum bytes and pixels of a file whose decoder is a Python loop (run-length encoded BMP, PPM as
#: text): enough for usual files of these kinds, and decoded within seconds.
SLOW_BYTES: Final = 4 * 1024 * 1024
SLOW_PIXELS: Final = 4_000_000
SLOW_SIDE: Final = 16_384
#: Maximum comments of a PPM as text: Pillow joins the text anew after each.
MAX_COMMENTS: Final = 1000
#: Minimum bytes of an allocation that is returned to the system as soon as it is freed, and maximum
#: free bytes that a thread keeps. Without the first limit, each thread keeps the memory of its
#: largest image; with glibc's default for the second one, the kernel clears each image's pages.
KEPT_BYTES: Final = 4 * 1024 * 1024
#: The parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_PLAIN_PPM: Final = "ppm_plain"
_SLOW_CODECS: Final = ("bmp_rle", _PLAIN_PPM)


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        # The resolution is not used, and reading it would parse the EXIF data unchecked.
        pass


_OPENERS: Final[Mapping[str, Callable[[io.BytesIO], ImageFile]]] = {
    "JPEG": _Jpeg,
    "PNG": FilledPng,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "PPM": ScaledPpm,
    "AVIF": open_avif,
    "HEIF": open_heif,
    "JPEG2000": Jpeg2KImageFile,
}


def open_image(form: str, encoded: bytes) -> ImageFile:
    """Open an image of a known format without decoding it.

    Raises ItemRejected for a file whose decoding would take too long, and any error of Pillow.
    """
    image = _OPENERS[form](io.BytesIO(encoded))
    codecs = {tile.codec_name for tile in image.tile}
    if not codecs.isdisjoint(_SLOW_CODECS):
        _check_slow(image, encoded)
    if _PLAIN_PPM in codecs and encoded.count(b"#") > MAX_COMMENTS:
        message = f"a PPM as text has at most {MAX_COMMENTS} comments; save it as a PNG"
        raise ItemRejected(ErrorCode.IMAGE_INVALID, message)
    return image


def _check_slow(image: ImageFile, encoded: bytes) -> None:
    width, height = image.size
    if len(encoded) > SLOW_BYTES or width * height > SLOW_PIXELS or max(width, height) > SLOW_SIDE:
        message = "too large for this kind of PPM or BMP; save it uncompressed or as a PNG"
        raise ItemRejected(ErrorCode.IMAGE_TOO_LARGE, message)


def _silence_logging() -> None:
    """Disable log output on files: errors belong in the item's result, not in the worker's log."""
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _limit_memory_retention() -> None:
    # Other C libraries have no such call, and most of them do not retain memory.
    with suppress(OSError, AttributeError):
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(parameter, KEPT_BYTES)


_silence_logging()
_limit_memory_retention()
