"""TIFF directories, in TIFF files and EXIF data: header checks, and the EXIF orientation.

Pillow reads everything that a directory declares: a thousand entries that point to the same
megabyte take a gigabyte, and an entry that points outside the file ends the reading. Therefore a
file reaches Pillow with only the entries that determine its pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.limits import too_complex

PREFIXES: Final = (b"II\x2a\x00", b"MM\x00\x2a", b"II\x00\x2a", b"MM\x2a\x00")
#: Not b"MM\x00\x2b": Pillow reads it as a classic TIFF, but libtiff, which decodes, as a BigTIFF.
BIG_PREFIXES: Final = (b"II\x2b\x00",)

#: Maximum entries of a directory.
MAX_ENTRIES: Final = 1 << 16
#: Maximum numbers in the entries that determine the pixels, mainly offsets and lengths of strips.
MAX_NUMBERS: Final = 1 << 18
#: Maximum bytes that these entries declare beyond the size of the file: some share bytes.
SHARED_BYTES: Final = 1 << 20

ORIENTATION: Final = 274
XMP: Final = 700
_WIDTH: Final = 256
_LENGTH: Final = 257
_COMPRESSION: Final = 259
_TILE_WIDTH: Final = 322
_TILE_LENGTH: Final = 323
#: The entries that determine the pixels: size, samples, compression, strips, tiles, colours.
_PIXEL_TAGS: Final = frozenset(
    {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320}
    | {322, 323, 324, 325, 332, 338, 339, 347, 529, 530, 531, 532}
)
#: Uncompressed, CCITT, LZW, JPEG, Deflate and PackBits. Other compressions are rare, and each would
#: expose a further decoder to untrusted files.
_COMPRESSIONS: Final = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)

#: Types that Pillow keeps as bytes, in any number: BYTE, ASCII, UNDEFINED.
_RAW: Final = (1, 2, 7)
#: The other types, by the format of one value; two values make a fraction.
_NUMBERS: Final = {
    3: "H",
    4: "L",
    5: "LL",
    6: "b",
    8: "h",
    9: "l",
    10: "ll",
    11: "f",
    12: "d",
    13: "L",
    16: "Q",
}


class TiffEntry(NamedTuple):
    """An entry of a directory."""

    tag: int
    kind: int
    #: Declared bytes of the values; 0 for a type that Pillow ignores.
    size: int
    #: Offset of the values, and of the entry itself.
    offset: int
    position: int

    @property
    def end(self) -> int:
        """The offset behind the values."""
        return self.offset + self.size


def orientation(exif: bytes) -> int | None:
    """Return the EXIF orientation, 1 to 8; None if there is none.

    As in Pillow, a value that is no such number counts as 1.
    """
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    value = None
    if exif[:4] in PREFIXES + BIG_PREFIXES:
        directory = _Directory(exif)
        for entry in islice(directory.entries(), MAX_ENTRIES):
            if entry.end > len(exif):
                # Pillow stops at an entry that it cannot read.
                break
            if entry.tag == ORIENTATION and entry.size:
                number = directory.number(entry)
                value = next((turn for turn in range(1, 9) if turn == number), 1)
    return value


class TiffFile(NamedTuple):
    """A TIFF without its metadata."""

    data: bytes
    xmp: bytes


def strip_tiff(data: bytes, max_pixels: int) -> TiffFile:
    """Return the file with the entries of its first picture alone, and its XMP.

    Raises ItemRejected for a file that would take far more memory than its size.
    """
    directory = _Directory(data)
    pixel_entries: dict[int, TiffEntry] = {}
    xmp = b""
    for index, entry in enumerate(directory.entries()):
        if index >= MAX_ENTRIES:
            raise too_complex("entries in a TIFF directory")
        if entry.tag in _PIXEL_TAGS and entry.size:
            pixel_entries[entry.tag] = entry
        elif entry.tag == XMP and entry.kind in _RAW:
            xmp = data[entry.offset : entry.end]
    _check_entries(directory, pixel_entries, max_pixels)
    return TiffFile(directory.with_entries(list(pixel_entries.values())), xmp)


def _check_entries(directory: _Directory, entries: dict[int, TiffEntry], max_pixels: int) -> None:
    numbers = sum(
        entry.size // struct.calcsize("=" + _NUMBERS[entry.kind])
        for entry in entries.values()
        if entry.kind not in _RAW
    )
    declared = sum(entry.size for entry in entries.values())
    if numbers > MAX_NUMBERS or declared > len(directory.data) + SHARED_BYTES:
        raise too_complex("numbers in a TIFF directory")
    values = {tag: directory.integer(entry) for tag, entry in entries.items()}
    compression = values.get(_COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        message = f"TIFF compression {compression} is not supported; use LZW or Deflate"
        raise ItemRejected(ErrorCode.IMAGE_INVALID, message)
    tile_width, tile_length = values.get(_TILE_WIDTH, 0), values.get(_TILE_LENGTH, 0)
    if tile_width * tile_length > max_pixels:
        raise ItemRejected(
            ErrorCode.IMAGE_TOO_LARGE, "a tile of the TIFF exceeds the size limit of an image"
        )
    if tile_width > 0 and tile_length > 0:
        columns = -(-values.get(_WIDTH, 0) // tile_width)
        rows = -(-values.get(_LENGTH, 0) // tile_length)
        # Tiles that are cut by the edges of an image are at most four times its size.
        if columns * rows * tile_width * tile_length > 4 * max_pixels:
            raise ItemRejected(
                ErrorCode.IMAGE_TOO_LARGE, "the tiles of the TIFF exceed the size limit of an image"
            )


class _Directory:
    """The first directory of a file; like Pillow, it stops at the end of truncated data."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._endian = "<" if data[:2] == b"II" else ">"
        # Same test as in Pillow, which does not support BigTIFF in the other byte order.
        big = data[2] == 43
        self._count, self._entry, self._offset = ("Q", "HHQ", "Q") if big else ("H", "HHL", "L")
        self._inline = struct.calcsize("=" + self._offset)
        self._width = struct.calcsize("=" + self._entry) + self._inline
        #: Bytes of the header, which ends with the offset of the directory.
        self._header = 16 if big else 8
        self._start = self._unpack(self._offset, self._header - self._inline)

    def entries(self) -> Iterator[TiffEntry]:
        """Yield the entries."""
        first = self._start + struct.calcsize("=" + self._count)
        end = min(first + self._unpack(self._count, self._start) * self._width, len(self.data))
        for position in range(first, end - self._width + 1, self._width):
            tag, kind, count = struct.unpack_from(self._endian + self._entry, self.data, position)
            size = count * (1 if kind in _RAW else struct.calcsize("=" + _NUMBERS.get(kind, "")))
            offset = position + self._width - self._inline
            if size > self._inline:
                offset = self._unpack(self._offset, offset)
            yield TiffEntry(tag, kind, size, offset, position)

    def number(self, entry: TiffEntry) -> float | None:
        """Return the first value of an entry; None if it is not a number."""
        if entry.kind in _RAW:
            return None
        form = self._endian + _NUMBERS[entry.kind]
        try:
            values = struct.unpack_from(form, self.data, entry.offset)
        except struct.error:
            return None
        if len(values) == 1:
            return values[0]  # type: ignore[no-any-return]
        return values[0] / values[1] if values[1] else None

    def integer(self, entry: TiffEntry) -> int:
        """Return the value of an entry that is one integer; 0 for any other."""
        is_single = entry.kind in _RAW[:1] or entry.kind in _NUMBERS
        if entry.kind == _RAW[0] and entry.size == 1:
            return self.data[entry.offset]
        number = self.number(entry) if is_single else None
        return number if isinstance(number, int) else 0

    def with_entries(self, entries: list[TiffEntry]) -> bytes:
        """Return the file with only these entries in its directory, the last one.

        Raises ItemRejected if that would change the header or the values of an entry, which are
        checked already.
        """
        parts = [self.data[entry.position : entry.position + self._width] for entry in entries]
        parts.sort(key=lambda part: struct.unpack_from(self._endian + "H", part))
        count = struct.pack(self._endian + self._count, len(parts))
        # Written over the old directory, so that all other offsets stay valid.
        head = b"".join([count, *parts, bytes(self._inline)])
        end = self._start + len(head)
        overlaps = any(
            entry.size > self._inline and entry.offset < end and self._start < entry.end
            for entry in entries
        )
        if overlaps or self._start < self._header:
            message = "the TIFF is damaged: its directory overlaps other parts; save it again"
            raise ItemRejected(ErrorCode.IMAGE_INVALID, message)
        return self.data[: self._start] + head + self.data[end:]

    def _unpack(self, form: str, offset: int) -> int:
        try:
            return int(struct.unpack_from(self._endian + form, self.data, offset)[0])
        except struct.error:
            return 0
