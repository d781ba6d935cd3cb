"""Image header checks: format, size and structure, before Pillow opens an untrusted file.

Pillow trusts the sizes that a file declares, in part as soon as it opens the file: a GIF of fifty
bytes makes it fill four gigabytes. These checks reject such decompression bombs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.gif import strip_gif
from worker.images.heif import BRANDS, brands, check_heif
from worker.images.jpeg import strip_jpeg
from worker.images.jpeg2000 import check_jpeg2000, is_jpeg2000
from worker.images.metadata import Metadata, StrippedFile
from worker.images.png import SIGNATURE, strip_png
from worker.images.ppm import KINDS, check_ppm
from worker.images.recognition import recognise
from worker.images.tiff import BIG_PREFIXES, PREFIXES, strip_tiff
from worker.images.webp import strip_webp

#: Decoded formats. Each further format of Pillow would increase the attack surface. Only the first
#: image of a JPEG with several (MPO) is decoded.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF", "JPEG2000")

#: Names of the formats for people, where they differ.
_NAMES: Final = {"WEBP": "WebP", "HEIF": "HEIC", "JPEG2000": "JPEG 2000"}


@dataclass(frozen=True, slots=True)
class Header:
    """The properties of an image that determine its decoding."""

    format: str
    #: True if decoding keeps all coefficients of a JPEG until the last scan.
    progressive: bool = False
    #: Bytes of the decoder's own buffers, where the header determines them.
    decoder_bytes: int = 0
    #: The file without its metadata; None where the format has none that Pillow parses.
    stripped: StrippedFile | None = None


def inspect_image(data: bytes, max_pixels: int) -> Header:
    """Check an image's header. Raises ItemRejected for a file that must not be opened."""
    for name, accepts, check in _CHECKS:
        if accepts(data):
            return check(name, data, max_pixels)
    name, remedy = recognise(data)
    message = f"not an image but {name}: {remedy}" if name else _unknown()
    raise ItemRejected(ErrorCode.IMAGE_INVALID, message)


def format_name(form: str) -> str:
    """Return the name of a format for people."""
    return _NAMES.get(form, form)


def _unknown() -> str:
    return f"not an image of a known format: use one of {', '.join(map(format_name, FORMATS))}"


def _jpeg(name: str, data: bytes, max_pixels: int) -> Header:
    jpeg = strip_jpeg(data, max_pixels)
    return Header(name, stripped=jpeg.stripped, progressive=jpeg.is_progressive)


def _png(name: str, data: bytes, max_pixels: int) -> Header:
    return Header(name, stripped=strip_png(data, max_pixels))


def _webp(name: str, data: bytes, max_pixels: int) -> Header:
    return Header(name, stripped=strip_webp(data, max_pixels))


def _gif(name: str, data: bytes, max_pixels: int) -> Header:
    return Header(name, stripped=StrippedFile(strip_gif(data, max_pixels)))


def _tiff(name: str, data: bytes, max_pixels: int) -> Header:
    tiff = strip_tiff(data, max_pixels)
    # A TIFF is itself in the format of EXIF data.
    return Header(name, stripped=StrippedFile(tiff.data, Metadata(exif=data, xmp=tiff.xmp)))


def _ppm(name: str, data: bytes, max_pixels: int) -> Header:
    check_ppm(data)
    return Header(name)


def _heif(name: str, data: bytes, max_pixels: int) -> Header:
    still = check_heif(data, max_pixels)
    return Header(still.format, decoder_bytes=still.decoder_bytes)


def _jpeg2000(name: str, data: bytes, max_pixels: int) -> Header:
    return Header(name, decoder_bytes=check_jpeg2000(data, max_pixels))


def _bmp(name: str, data: bytes, max_pixels: int) -> Header:
    return Header(name)


_CHECKS: Final[
    tuple[tuple[str, Callable[[bytes], bool], Callable[[str, bytes, int], Header]], ...]
] = (
    ("JPEG", lambda data: data.startswith(b"\xff\xd8\xff"), _jpeg),
    ("PNG", lambda data: data.startswith(SIGNATURE), _png),
    ("WEBP", lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp),
    ("GIF", lambda data: data[:6] in (b"GIF87a", b"GIF89a"), _gif),
    ("BMP", lambda data: data.startswith(b"BM"), _bmp),
    ("TIFF", lambda data: data[:4] in PREFIXES + BIG_PREFIXES, _tiff),
    ("PPM", lambda data: data[:2] in KINDS, _ppm),
    ("JPEG2000", is_jpeg2000, _jpeg2000),
    ("HEIF", lambda data: not BRANDS.isdisjoint(brands(data)), _heif),
)
