"""JPEGs: what stands before their pixels, and how often those are gone over."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from worker.images.limits import check_size, too_complex

#: Bytes before the pixels of a JPEG, among them what belongs to no segment, and segments.
MAX_BYTES: Final = 16 << 20
MAX_JUNK: Final = 1 << 16
MAX_SEGMENTS: Final = 1024
#: Tables and Photoshop segments of a JPEG: each is taken apart in Python.
MAX_TABLES: Final = 64
#: Pixels times scans of a JPEG: each scan goes over all pixels, even if it says nothing.
MAX_WORK: Final = 2_000_000_000
#: Scans that any JPEG may have.
USUAL_SCANS: Final = 24

_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xDE}
#: Markers with no length after them.
_BARE: Final = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})


def check_jpeg(data: bytes, max_pixels: int) -> bool:
    """Whether it waits for its last scan, as progressive ones do; raises Refused."""
    frames = tables = pixels = start = 0
    progressive = False
    for marker, at in _segments(data):
        start = at
        if marker in _FRAMES:
            frames += 1
            progressive |= marker in (0xC2, 0xC6, 0xCA, 0xCE)
            height, width = struct.unpack_from(">HH", data.ljust(at + 9, b"\0"), at + 5)
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
            if marker not in _BARE:
                yield marker, place
                at += max(2, int.from_bytes(data[at : at + 2], "big"))
        if junk > MAX_JUNK or segments > MAX_SEGMENTS or at > MAX_BYTES:
            raise too_complex("segments")
        if marker == 0xDA:
            return
