"""Image header checks: format, size and structure, before Pillow opens an untrusted file.

Pillow trusts the sizes that a file declares, in part as soon as it opens the file: a GIF of fifty
bytes makes it fill four gigabytes. These checks reject such decompression bombs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images import tiff
from worker.images.gif import check_gif
from worker.images.heif import BRANDS, brands, check_heif
from worker.images.jpeg import check_jpeg
from worker.images.jpeg2000 import check_jpeg2000, is_jpeg2000
from worker.images.limits import check_size, too_complex
from worker.images.recognition import recognise

#: Decoded formats. Each further format of Pillow would increase the attack surface. Only the first
#: image of a JPEG with several (MPO) is decoded.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF", "JPEG2000")

#: Names of the formats for people, where they differ.
_NAMES: Final = {"WEBP": "WebP", "HEIF": "HEIC", "JPEG2000": "JPEG 2000"}

#: Maximum chunks of a PNG, and those without pixels: each may expand to a megabyte.
PNG_CHUNKS: Final = 1 << 16
PNG_METADATA_CHUNKS: Final = 1024
#: Maximum chunks of a WebP.
WEBP_CHUNKS: Final = 1 << 13
#: Maximum bytes of a PPM's header with its comments.
PPM_HEADER: Final = 4096


@dataclass(frozen=True, slots=True)
class Header:
    """The properties of an image that determine its decoding."""

    format: str
    #: True if decoding keeps all coefficients of a JPEG until the last scan.
    progressive: bool = False
    animated: bool = False
    #: Bytes of the decoder's own buffers, where the header determines them.
    decoder_bytes: int = 0


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
    return Header(name, progressive=check_jpeg(data, max_pixels))


def _png(name: str, data: bytes, max_pixels: int) -> Header:
    offset, chunks, metadata_chunks = 8, 0, 0
    animated = False
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        if kind == b"IHDR":
            # Check each header chunk, since Pillow uses the last.
            width, height = struct.unpack_from(">II", data.ljust(offset + 16, b"\0"), offset + 8)
            check_size(width, height, max_pixels)
        chunks += 1
        metadata_chunks += kind not in (b"IDAT", b"fdAT")
        animated |= kind == b"acTL"
        if chunks > PNG_CHUNKS or metadata_chunks > PNG_METADATA_CHUNKS:
            raise too_complex("chunks")
        if kind == b"IEND":
            break
        offset += 12 + length
    return Header(name, animated=animated)


def _webp(name: str, data: bytes, max_pixels: int) -> Header:
    kind, head = data[12:16], data[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        width = int.from_bytes(head[4:7], "little") + 1
        height = int.from_bytes(head[7:10], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width = int.from_bytes(head[6:8], "little") & 0x3FFF
        height = int.from_bytes(head[8:10], "little") & 0x3FFF
    check_size(width, height, max_pixels)
    offset, chunks = 12, 0
    while offset + 8 <= len(data):
        chunks += 1
        if chunks > WEBP_CHUNKS:
            raise too_complex("chunks")
        length = int.from_bytes(data[offset + 4 : offset + 8], "little")
        offset += 8 + length + length % 2
    return Header(name)


def _gif(name: str, data: bytes, max_pixels: int) -> Header:
    check_gif(data, max_pixels)
    return Header(name)


def _tiff(name: str, data: bytes, max_pixels: int) -> Header:
    tiff.check_tiff(data, max_pixels)
    return Header(name)


def _ppm(name: str, data: bytes, max_pixels: int) -> Header:
    head, fields, in_comment = data[:PPM_HEADER], 0, False
    # The kind, then width and height, then (in most kinds) the maximum value.
    required = 3 if data[1:2] in b"14" else 4
    in_field = False
    for byte in head:
        if in_comment:
            in_comment = byte not in b"\r\n"
        elif byte == ord("#"):
            in_comment = True
        elif byte in b" \t\r\n\v\f":
            fields += in_field
            in_field = False
            if fields == required:
                return Header(name)
        else:
            in_field = True
    if len(data) > PPM_HEADER:
        raise too_complex("bytes in its header")
    return Header(name)


_PPM_KINDS: Final = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf")


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
    ("PNG", lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    ("WEBP", lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp),
    ("GIF", lambda data: data[:6] in (b"GIF87a", b"GIF89a"), _gif),
    ("BMP", lambda data: data.startswith(b"BM"), _bmp),
    ("TIFF", lambda data: data[:4] in tiff.PREFIXES + tiff.BIG_PREFIXES, _tiff),
    ("PPM", lambda data: data[:2] in _PPM_KINDS, _ppm),
    ("JPEG2000", is_jpeg2000, _jpeg2000),
    ("HEIF", lambda data: not BRANDS.isdisjoint(brands(data)), _heif),
)
