"""TIFF directories, which TIFF files and EXIF data are made of: bounds, and one tag.

Pillow reads whatever a directory claims. A thousand entries that all point at the same megabyte
cost it a gigabyte, and each number of an entry becomes an object: so they are counted before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from producer.contract import ErrorCode
from worker.errors import ItemRejected

PREFIXES: Final = (b"II\x2a\x00", b"MM\x00\x2a", b"II\x00\x2a", b"MM\x2a\x00")
BIG_PREFIXES: Final = (b"II\x2b\x00", b"MM\x00\x2b")

#: Entries of a directory; libtiff takes no more either.
MAX_ENTRIES: Final = 4096
#: Numbers in a directory: places and lengths of strips, above all.
MAX_NUMBERS: Final = 1 << 18
#: Bytes that entries may claim beyond what the file has: some share a few.
SHARED_BYTES: Final = 1 << 20

ORIENTATION: Final = 274
_COMPRESSION: Final = 259
_TILE_WIDTH: Final = 322
_TILE_LENGTH: Final = 323
#: Where the directories begin that Pillow reads with the first: EXIF, GPS, interoperability.
_POINTERS: Final = (34665, 34853, 40965)
#: Uncompressed, CCITT, LZW, JPEG, Deflate and PackBits. The others are rare, and each is a
#: decoder of its own that strangers could reach.
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
#: Types that stay bytes, however many: BYTE, ASCII, UNDEFINED.
_RAW: Final = (1, 2, 7)
_INTEGERS: Final = {1: "B", 3: "H", 4: "L", 13: "L", 16: "Q"}


class TiffTag(NamedTuple):
    """What an entry claims; its value, if that is one integer."""

    tag: int
    kind: int
    numbers: int
    #: Bytes that are really read for it.
    size: int
    value: int | None


def first_entries(data: bytes) -> Iterator[TiffTag]:
    """Those of the first directory, as far as they can be read; none if there is none."""
    if data[:4] not in PREFIXES + BIG_PREFIXES:
        return
    reader = _Reader(data)
    yield from reader.entries(reader.first)


def orientation(exif: bytes) -> int:
    """How the picture is to be turned, as EXIF counts: 1 to 8; 1 if that cannot be read."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    found = 1
    for entry in first_entries(exif):
        if entry.tag == ORIENTATION:
            found = entry.value or 1
    return found


def check_tiff(data: bytes, max_pixels: int) -> None:
    """Raises Refused for a file that would cost far more than it has bytes."""
    if data[:4] not in PREFIXES + BIG_PREFIXES:
        return
    reader = _Reader(data)
    values = _checked(reader, reader.first)
    if values.get(_COMPRESSION, 1) not in _COMPRESSIONS:
        about = f"TIFF compression {values[_COMPRESSION]} is not decoded: use LZW or Deflate"
        raise ItemRejected(ErrorCode.IMAGE_INVALID, about)
    if values.get(_TILE_WIDTH, 0) * values.get(_TILE_LENGTH, 0) > max_pixels:
        raise ItemRejected(
            ErrorCode.IMAGE_TOO_LARGE, "a tile of the TIFF is larger than an image may be"
        )
    for tag in _POINTERS:
        if tag in values:
            inner = _checked(reader, values[tag])
            for further in _POINTERS:
                if further in inner:
                    _checked(reader, inner[further])


def _checked(reader: _Reader, at: int) -> dict[int, int]:
    """The integers of a directory, by tag."""
    numbers = claimed = 0
    values = {}
    for place, entry in enumerate(reader.entries(at)):
        claimed += entry.size
        numbers += 0 if entry.kind in _RAW else entry.numbers
        if (
            place >= MAX_ENTRIES
            or numbers > MAX_NUMBERS
            or claimed > len(reader.data) + SHARED_BYTES
        ):
            about = "a directory of the TIFF claims more than an image needs"
            raise ItemRejected(ErrorCode.IMAGE_INVALID, about)
        if entry.value is not None:
            values[entry.tag] = entry.value
    return values


class _Reader:
    """Reads as Pillow does, which stops at what is cut off."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._endian = "<" if data[:2] == b"II" else ">"
        # As Pillow tells it: a large file of the other byte order is not known to it.
        big = data[2] == 43
        self._count, self._entry, self._inline = ("Q", "HHQ8s", 8) if big else ("H", "HHL4s", 4)
        self.first: int = self._unpack("Q" if big else "L", 8 if big else 4) or 0

    def entries(self, at: int) -> Iterator[TiffTag]:
        """Of the directory that begins there."""
        head = struct.calcsize(self._endian + self._count)
        width = struct.calcsize(self._endian + self._entry)
        count = self._unpack(self._count, at) or 0
        begin = at + head
        for place in range(begin, min(begin + count * width, len(self.data) - width + 1), width):
            found = struct.unpack_from(self._endian + self._entry, self.data, place)
            yield self._claims(*found)

    def _claims(self, tag: int, kind: int, count: int, inline: bytes) -> TiffTag:
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

    def _unpack(self, form: str, at: int) -> int | None:
        try:
            return int(struct.unpack_from(self._endian + form, self.data, at)[0])
        except struct.error:
            return None
