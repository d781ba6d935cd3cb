"""What an encoded image says of itself, before anything of it is unpacked, and what is believed.

Pillow takes time and memory for what a file claims, some of it as soon as the file is opened: a
GIF of fifty bytes makes it fill four gigabytes. So a file is looked through here first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from producer.contract import ErrorCode
from worker import directory
from worker.refused import Refused

#: Formats that are decoded; Pillow knows many more, each a door of its own. A JPEG with more
#: pictures behind it (MPO) is taken for its first.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

#: Pixels of one side: the table that resizing makes has 32 bytes for each.
MAX_SIDE: Final = 1_000_000

#: Bytes before the first picture of a GIF, and blocks there: Pillow joins comments one by one.
GIF_BYTES: Final = 1 << 20
GIF_BLOCKS: Final = 1 << 14
#: Bytes before the pixels of a JPEG, among them what belongs to no segment, and segments.
JPEG_BYTES: Final = 16 << 20
JPEG_JUNK: Final = 1 << 16
JPEG_SEGMENTS: Final = 1024
#: Tables and Photoshop segments of a JPEG: each is taken apart in Python.
JPEG_TABLES: Final = 64
#: Pixels times scans of a JPEG: each scan goes over all pixels, even if it says nothing.
JPEG_WORK: Final = 2_000_000_000
#: Scans that any JPEG may have.
JPEG_SCANS: Final = 24
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


def read_header(data: bytes, max_pixels: int) -> Header:
    """Raises Refused for what is not to be opened."""
    for found, accepts, check in _CHECKS:
        if accepts(data):
            return check(found, data, max_pixels)
    about = f"not an image of a known format: use one of {', '.join(FORMATS)}"
    raise Refused(ErrorCode.IMAGE_INVALID, about)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises Refused for more than is decoded."""
    if width * height > max_pixels:
        raise Refused(
            ErrorCode.IMAGE_TOO_LARGE,
            f"the image has {width} x {height} pixels; at most {max_pixels:,} are decoded",
        )
    if max(width, height) > MAX_SIDE:
        about = f"the image has {width} x {height} pixels; a side may have {MAX_SIDE:,}"
        raise Refused(ErrorCode.IMAGE_TOO_LARGE, about)


def _overdone(what: str) -> Refused:
    return Refused(ErrorCode.IMAGE_INVALID, f"the file has more {what} than an image needs")


def _jpeg(found: str, data: bytes, max_pixels: int) -> Header:
    frames = tables = pixels = start = 0
    progressive = False
    for marker, at in _jpeg_segments(data):
        start = at
        if marker in _JPEG_FRAMES:
            frames += 1
            progressive |= marker in (0xC2, 0xC6, 0xCA, 0xCE)
            height, width = struct.unpack_from(">HH", data.ljust(at + 9, b"\0"), at + 5)
            check_size(width, height, max_pixels)
            pixels = width * height
        tables += marker in (0xDB, 0xED)
        if frames > 1 or tables > JPEG_TABLES:
            raise _overdone("tables")
    scans = data.count(b"\xff\xda", start)
    if scans > JPEG_SCANS and scans * pixels > JPEG_WORK:
        raise _overdone("scans")
    return Header(found, progressive or scans > 1)


_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xDE}
#: Markers with no length after them.
_JPEG_BARE: Final = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and place of each segment before the pixels, as Pillow finds them."""
    at, junk, segments = 2, 0, 0
    while (place := data.find(b"\xff", at)) >= 0 and place + 1 < len(data):
        junk += place - at
        marker = data[place + 1]
        at = place + 1
        if marker in (0x00, 0xFF):
            junk += 1
        else:
            segments += 1
            at += 1
            if marker not in _JPEG_BARE:
                yield marker, place
                at += max(2, int.from_bytes(data[at : at + 2], "big"))
        if junk > JPEG_JUNK or segments > JPEG_SEGMENTS or at > JPEG_BYTES:
            raise _overdone("segments")
        if marker == 0xDA:
            return


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
            raise _overdone("chunks")
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
            raise _overdone("chunks")
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return Header(found)


def _gif(found: str, data: bytes, max_pixels: int) -> Header:
    across, down = struct.unpack_from("<HH", data.ljust(10, b"\0"), 6)
    check_size(across, down, max_pixels)
    at = _gif_picture(data)
    if at is not None:
        # A picture may be larger than the screen: the screen grows.
        x, y, width, height = struct.unpack_from("<HHHH", data.ljust(at + 8, b"\0"), at)
        check_size(max(across, x + width), max(down, y + height), max_pixels)
    return Header(found)


def _gif_picture(data: bytes) -> int | None:
    """Where the first picture's place and size stand; found as Pillow finds it."""
    flags = data[10] if len(data) > 10 else 0
    at = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    start, blocks = at, 0
    while at < len(data):
        kind = data[at]
        at += 1
        if kind == 0x2C:
            return at
        if kind == 0x3B:
            return None
        if kind == 0x21:
            at, passed = _gif_extension(data, at)
            blocks += passed
        if at - start > GIF_BYTES or blocks > GIF_BLOCKS:
            raise _overdone("blocks before its first picture")
    return None


def _gif_extension(data: bytes, at: int) -> tuple[int, int]:
    """Where it ends, and the blocks it has."""
    label = data[at : at + 1]
    at, blocks = at + 1, 1
    first = at
    at += 1 + _byte(data, at)
    if label == b"\xfe" and at == first + 1:
        return at, blocks
    if label == b"\xff" and data[first + 1 : first + 12] == b"NETSCAPE2.0":
        at += 1 + _byte(data, at)
    while size := _byte(data, at):
        at += 1 + size
        blocks += 1
        if blocks > GIF_BLOCKS:
            break
    return at + 1, blocks


def _byte(data: bytes, at: int) -> int:
    return data[at] if at < len(data) else 0


def _tiff(found: str, data: bytes, max_pixels: int) -> Header:
    directory.check_tiff(data, max_pixels)
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
        raise _overdone("bytes in its header")
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
    ("TIFF", lambda data: data[:4] in directory.PREFIXES + directory.BIG_PREFIXES, _tiff),
    ("PPM", lambda data: data[:2] in _PPM_KINDS, _ppm),
)
