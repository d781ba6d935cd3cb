"""Header checks of JPEG files: segments before the pixels and the number of scans."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from worker.images.limits import check_size, too_complex

#: Maximum bytes before the pixels of a JPEG, such bytes outside of segments, and segments.
MAX_BYTES: Final = 16 << 20
MAX_JUNK: Final = 1 << 16
MAX_SEGMENTS: Final = 1024
#: Maximum tables and Photoshop segments of a JPEG: Pillow parses each in Python.
MAX_TABLES: Final = 64
#: Maximum pixels times scans of a JPEG: each scan visits all pixels, even if it is empty.
MAX_WORK: Final = 2_000_000_000
#: Number of scans that is always allowed.
USUAL_SCANS: Final = 24

_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xDE}
#: Markers without a length field.
_BARE: Final = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})


def check_jpeg(data: bytes, max_pixels: int) -> bool:
    """Return whether decoding waits for the last scan, as in a progressive JPEG.

    Raises ItemRejected for a JPEG that must not be opened.
    """
    frames = tables = pixels = start = 0
    progressive = False
    for marker, offset in _segments(data):
        start = offset
        if marker in _FRAMES:
            frames += 1
            progressive |= marker in (0xC2, 0xC6, 0xCA, 0xCE)
            height, width = struct.unpack_from(">HH", data.ljust(offset + 9, b"\0"), offset + 5)
            check_size(width, height, max_pixels)
            pixels = width * height
        tables += marker in (0xDB, 0xED)
        if frames > 1 or tables > MAX_TABLES:
            raise too_complex("tables")
    scans = data.count(b"\xff\xda", start)
    if scans > USUAL_SCANS and scans * pixels > MAX_WORK:
        raise too_complex("scans")
    return progressive or scans > 1


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and offset of each segment before the pixels, as Pillow finds them."""
    position, junk, segments = 2, 0, 0
    while (offset := data.find(b"\xff", position)) >= 0 and offset + 1 < len(data):
        junk += offset - position
        marker = data[offset + 1]
        position = offset + 1
        if marker in (0x00, 0xFF):
            junk += 1
        else:
            segments += 1
            position += 1
            if marker not in _BARE:
                yield marker, offset
                position += max(2, int.from_bytes(data[position : position + 2], "big"))
        if junk > MAX_JUNK or segments > MAX_SEGMENTS or position > MAX_BYTES:
            raise too_complex("segments")
        if marker == 0xDA:
            return
