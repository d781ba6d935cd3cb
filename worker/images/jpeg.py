"""Header checks of JPEG files, their number of scans, and their reduction to one picture."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from worker.images.limits import check_size, too_complex
from worker.images.metadata import Metadata, StrippedFile

#: Maximum bytes outside of segments before the pixels of a JPEG, and segments.
MAX_JUNK: Final = 1 << 16
MAX_SEGMENTS: Final = 1 << 18
#: Maximum segments that determine the pixels: Pillow parses each in Python.
MAX_TABLES: Final = 64
#: Maximum pixels times scans of a JPEG: each scan visits all pixels, even if it is empty.
MAX_WORK: Final = 2_000_000_000
#: Number of scans that is always allowed.
USUAL_SCANS: Final = 24

_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xDE}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
#: Markers without a length field.
_BARE: Final = frozenset({0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_SCAN: Final = 0xDA
_END: Final = 0xD9
#: A marker in entropy-coded data, where a zero or a restart marker may follow 0xFF.
_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

_EXIF: Final = b"Exif\0\0"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"


class _Segment(NamedTuple):
    marker: int
    #: The bytes from the marker to the end of the segment.
    data: bytes

    @property
    def body(self) -> bytes:
        return self.data[4:]

    @property
    def is_metadata(self) -> bool:
        """True if the segment has no effect on the pixels."""
        if self.marker == 0xE0:
            # The decoder takes the colour space from these two.
            return not (self.body.startswith(b"JFIF\0") and len(self.body) >= 14)
        if self.marker == 0xEE:
            return not (self.body.startswith(b"Adobe") and len(self.body) >= 12)
        return self.marker in range(0xE0, 0xF0) or self.marker == 0xFE


class JpegFile(NamedTuple):
    """A JPEG without its metadata."""

    stripped: StrippedFile
    #: True if decoding waits for the last scan, as in a progressive JPEG.
    is_progressive: bool


def strip_jpeg(data: bytes, max_pixels: int) -> JpegFile:
    """Return the file with its picture alone, and the properties of its decoding.

    Raises ItemRejected for a JPEG that must not be opened.
    """
    parts, exif, xmp = [data[:2]], [], b""
    frames = pixels = position = 0
    is_progressive = False
    for segment, offset in _segments(data):
        position = offset + len(segment.data)
        if segment.marker == _SCAN:
            position = offset
            break
        if segment.is_metadata:
            if segment.marker == 0xE1 and segment.body.startswith(_EXIF):
                exif.append(segment.body[len(_EXIF) :])
            elif segment.marker == 0xE1 and segment.body.startswith(_XMP):
                xmp = segment.body[len(_XMP) :]
            continue
        if segment.marker in _FRAMES:
            frames += 1
            is_progressive |= segment.marker in _PROGRESSIVE
            height, width = struct.unpack(">HH", segment.body[1:5].ljust(4, b"\0"))
            check_size(width, height, max_pixels)
            pixels = width * height
        parts.append(segment.data)
        if frames > 1 or len(parts) > MAX_TABLES:
            raise too_complex("tables")
    scans = _count_scans(data, position)
    if scans > USUAL_SCANS and scans * pixels > MAX_WORK:
        raise too_complex("scans")
    stripped = StrippedFile(b"".join([*parts, data[position:]]), Metadata(b"".join(exif), xmp))
    return JpegFile(stripped, is_progressive or scans > 1)


def _segments(data: bytes) -> Iterator[tuple[_Segment, int]]:
    """Yield each segment up to the first scan with its offset, as Pillow finds them."""
    position, junk, segments = 2, 0, 0
    while (offset := data.find(b"\xff", position)) >= 0 and offset + 1 < len(data):
        junk += offset - position
        marker = data[offset + 1]
        position = offset + 1
        if marker in (0x00, 0xFF):
            junk += 1
        else:
            segments += 1
            position = _segment_end(data, offset)
            yield _Segment(marker, data[offset:position]), offset
        if junk > MAX_JUNK or segments > MAX_SEGMENTS:
            raise too_complex("segments")


def _segment_end(data: bytes, offset: int) -> int:
    if data[offset + 1] in _BARE:
        return offset + 2
    return offset + 2 + max(2, int.from_bytes(data[offset + 2 : offset + 4], "big"))


def _count_scans(data: bytes, position: int) -> int:
    """Return the number of scans up to the end of the image; a further file may follow it."""
    scans = segments = 0
    while marker := _MARKER.search(data, position):
        kind = data[marker.start() + 1]
        if kind == _END:
            break
        scans += kind == _SCAN
        segments += 1
        if segments > MAX_SEGMENTS:
            raise too_complex("segments")
        position = _segment_end(data, marker.start())
    return scans
