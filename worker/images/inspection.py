"""What an encoded image says of itself, before anything of it is unpacked, and what is believed.

Pillow takes time and memory for what a file claims, some of it as soon as the file is opened: a
GIF of fifty bytes makes it fill four gigabytes. So a file is looked through here first.
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
from worker.images.jpeg import check_jpeg
from worker.images.limits import check_size, too_complex

#: Formats that are decoded; Pillow knows many more, each a door of its own. A JPEG with more
#: pictures behind it (MPO) is taken for its first.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

#: Chunks of a PNG, and those that are not pixels: each may unpack to a megabyte.
PNG_CHUNKS: Final = 1 << 16
PNG_OTHERS: Final = 1024
WEBP_CHUNKS: Final = 1 << 13
#: Bytes of a PPM's header with its comments.
PPM_HEADER: Final = 4096


@dataclass(frozen=True, slots=True)
class Header:
    """What was found out."""

    format: str
    #: All of a JPEG's coefficients are kept until the last scan is there.
    progressive: bool = False
    animated: bool = False


def inspect_image(data: bytes, max_pixels: int) -> Header:
    """Raises Refused for what is not to be opened."""
    for found, accepts, check in _CHECKS:
        if accepts(data):
            return check(found, data, max_pixels)
    about = f"not an image of a known format: use one of {', '.join(FORMATS)}"
    raise ItemRejected(ErrorCode.IMAGE_INVALID, about)


def _jpeg(found: str, data: bytes, max_pixels: int) -> Header:
    return Header(found, progressive=check_jpeg(data, max_pixels))


def _png(found: str, data: bytes, max_pixels: int) -> Header:
    at, chunks, others = 8, 0, 0
    animated = False
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IHDR":
            # Each, since Pillow believes the last.
            width, height = struct.unpack_from(">II", data.ljust(at + 16, b"\0"), at + 8)
            check_size(width, height, max_pixels)
        chunks += 1
        others += kind not in (b"IDAT", b"fdAT")
        animated |= kind == b"acTL"
        if chunks > PNG_CHUNKS or others > PNG_OTHERS:
            raise too_complex("chunks")
        if kind == b"IEND":
            break
        at += 12 + length
    return Header(found, animated=animated)


def _webp(found: str, data: bytes, max_pixels: int) -> Header:
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
    at, chunks = 12, 0
    while at + 8 <= len(data):
        chunks += 1
        if chunks > WEBP_CHUNKS:
            raise too_complex("chunks")
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return Header(found)


def _gif(found: str, data: bytes, max_pixels: int) -> Header:
    check_gif(data, max_pixels)
    return Header(found)


def _tiff(found: str, data: bytes, max_pixels: int) -> Header:
    tiff.check_tiff(data, max_pixels)
    return Header(found)


def _ppm(found: str, data: bytes, max_pixels: int) -> Header:
    head, numbers, comment = data[:PPM_HEADER], 0, False
    # The kind, then width and height, then mostly the brightest value.
    wanted = 3 if data[1:2] in b"14" else 4
    inside = False
    for byte in head:
        if comment:
            comment = byte not in b"\r\n"
        elif byte == ord("#"):
            comment = True
        elif byte in b" \t\r\n\v\f":
            numbers += inside
            inside = False
            if numbers == wanted:
                return Header(found)
        else:
            inside = True
    if len(data) > PPM_HEADER:
        raise too_complex("bytes in its header")
    return Header(found)


_PPM_KINDS: Final = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf")


def _as_it_is(found: str, data: bytes, max_pixels: int) -> Header:
    return Header(found)


_CHECKS: Final[
    tuple[tuple[str, Callable[[bytes], bool], Callable[[str, bytes, int], Header]], ...]
] = (
    ("JPEG", lambda data: data.startswith(b"\xff\xd8\xff"), _jpeg),
    ("PNG", lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    ("WEBP", lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp),
    ("GIF", lambda data: data[:6] in (b"GIF87a", b"GIF89a"), _gif),
    ("BMP", lambda data: data.startswith(b"BM"), _as_it_is),
    ("TIFF", lambda data: data[:4] in tiff.PREFIXES + tiff.BIG_PREFIXES, _tiff),
    ("PPM", lambda data: data[:2] in _PPM_KINDS, _ppm),
)
