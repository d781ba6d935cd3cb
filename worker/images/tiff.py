"""Header checks of TIFF directories, in TIFF files and EXIF data, and the EXIF orientation.

Pillow reads everything that a directory declares. A thousand entries that point to the same
megabyte take a gigabyte, and each number of an entry becomes an object. These checks count the
entries first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from producer.contract import ErrorCode
from worker.errors import ItemRejected

PREFIXES: Final = (b"II\x2a\x00", b"MM\x00\x2a", b"II\x00\x2a", b"MM\x2a\x00")
BIG_PREFIXES: Final = (b"II\x2b\x00", b"MM\x00\x2b")

#: Maximum entries of a directory; libtiff has the same limit.
MAX_ENTRIES: Final = 4096
#: Maximum numbers in a directory, mainly offsets and lengths of strips.
MAX_NUMBERS: Final = 1 << 18
#: Maximum bytes that entries declare beyond the size of the file: some entries share bytes.
SHARED_BYTES: Final = 1 << 20

ORIENTATION: Final = 274
_COMPRESSION: Final = 259
_TILE_WIDTH: Final = 322
_TILE_LENGTH: Final = 323
#: Tags of the further directories that Pillow reads: EXIF, GPS, interoperability.
_POINTERS: Final = (34665, 34853, 40965)
#: Uncompressed, CCITT, LZW, JPEG, Deflate and PackBits. Other compressions are rare, and each would
#: expose a further decoder to untrusted files.
_COMPRESSIONS: Final = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)

#: Bytes of one value of each type.
_WIDTHS: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
}
#: Types that Pillow keeps as bytes, in any number: BYTE, ASCII, UNDEFINED.
_RAW: Final = (1, 2, 7)
_INTEGERS: Final = {1: "B", 3: "H", 4: "L", 13: "L", 16: "Q"}


class TiffTag(NamedTuple):
    """The declared properties of a directory entry, and its value if that is one integer."""

    tag: int
    kind: int
    numbers: int
    #: Bytes that Pillow reads for the entry.
    size: int
    value: int | None


def first_entries(data: bytes) -> Iterator[TiffTag]:
    """Yield the entries of the first directory, up to the end of truncated data."""
    if data[:4] not in PREFIXES + BIG_PREFIXES:
        return
    reader = _Reader(data)
    yield from reader.entries(reader.first)


def orientation(exif: bytes) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it cannot be read."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    value = 1
    for entry in first_entries(exif):
        if entry.tag == ORIENTATION:
            value = entry.value or 1
    return value


def check_tiff(data: bytes, max_pixels: int) -> None:
    """Raise ItemRejected for a file that would take far more memory than its size."""
    if data[:4] not in PREFIXES + BIG_PREFIXES:
        return
    reader = _Reader(data)
    values = _check_directory(reader, reader.first)
    if values.get(_COMPRESSION, 1) not in _COMPRESSIONS:
        message = f"TIFF compression {values[_COMPRESSION]} is not supported; use LZW or Deflate"
        raise ItemRejected(ErrorCode.IMAGE_INVALID, message)
    if values.get(_TILE_WIDTH, 0) * values.get(_TILE_LENGTH, 0) > max_pixels:
        raise ItemRejected(
            ErrorCode.IMAGE_TOO_LARGE, "a tile of the TIFF exceeds the size limit of an image"
        )
    for tag in _POINTERS:
        if tag in values:
            inner = _check_directory(reader, values[tag])
            for further in _POINTERS:
                if further in inner:
                    _check_directory(reader, inner[further])


def _check_directory(reader: _Reader, offset: int) -> dict[int, int]:
    """Return the integers of a directory by tag. Raises ItemRejected if it declares too much."""
    numbers = claimed = 0
    values = {}
    for index, entry in enumerate(reader.entries(offset)):
        claimed += entry.size
        numbers += 0 if entry.kind in _RAW else entry.numbers
        if (
            index >= MAX_ENTRIES
            or numbers > MAX_NUMBERS
            or claimed > len(reader.data) + SHARED_BYTES
        ):
            message = "a directory of the TIFF declares more data than an image needs"
            raise ItemRejected(ErrorCode.IMAGE_INVALID, message)
        if entry.value is not None:
            values[entry.tag] = entry.value
    return values


class _Reader:
    """A reader of directories that, like Pillow, stops at the end of truncated data."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._endian = "<" if data[:2] == b"II" else ">"
        # Same test as in Pillow, which does not support BigTIFF in the other byte order.
        big = data[2] == 43
        self._count, self._entry, self._inline = ("Q", "HHQ8s", 8) if big else ("H", "HHL4s", 4)
        self.first: int = self._unpack("Q" if big else "L", 8 if big else 4) or 0

    def entries(self, offset: int) -> Iterator[TiffTag]:
        """Yield the entries of the directory at this offset."""
        head = struct.calcsize(self._endian + self._count)
        width = struct.calcsize(self._endian + self._entry)
        count = self._unpack(self._count, offset) or 0
        start = offset + head
        for position in range(start, min(start + count * width, len(self.data) - width + 1), width):
            fields = struct.unpack_from(self._endian + self._entry, self.data, position)
            yield self._tag(*fields)

    def _tag(self, tag: int, kind: int, count: int, inline: bytes) -> TiffTag:
        size = count * _WIDTHS.get(kind, 0)
        value = None
        if size > self._inline:
            offset = self._number(self._inline, inline)
            size = min(size, max(0, len(self.data) - offset))
        elif count and kind in _INTEGERS:
            (value,) = struct.unpack_from(self._endian + _INTEGERS[kind], inline)
        return TiffTag(tag, kind, count if size else 0, size, value)

    def _number(self, width: int, raw: bytes) -> int:
        (number,) = struct.unpack(self._endian + ("Q" if width == 8 else "L"), raw)
        return int(number)

    def _unpack(self, form: str, offset: int) -> int | None:
        try:
            return int(struct.unpack_from(self._endian + form, self.data, offset)[0])
        except struct.error:
            return None
