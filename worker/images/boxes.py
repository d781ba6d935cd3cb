"""Boxes of ISO base media files (ISO 14496-12), and the items in a `meta` box (HEIF, ISO 23008-12).

The libraries that open these files trust the counts that the boxes declare. This reader accepts
only as many as images need.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.limits import too_complex

#: Maximum boxes in a box. Libheif accepts 100 in most boxes, and 1,000 items.
MAX_BOXES: Final = 1024
#: Maximum bytes of the boxes that describe the items; a photo of a phone has 4 KiB.
MAX_META_BYTES: Final = 1 << 20
#: Maximum entries of all tables in a `meta` box together: locations, associations, references.
MAX_ENTRIES: Final = 1 << 14
#: Maximum bytes that items declare beyond the size of the file: some items share bytes.
SHARED_BYTES: Final = 1 << 20


class Box(NamedTuple):
    """A box: its type, and the offsets of its header, its content and its end."""

    kind: bytes
    offset: int
    start: int
    end: int


class Extent(NamedTuple):
    """A part of an item's data: offset in the file, and length; 0 bytes reach to the end."""

    offset: int
    length: int


@dataclass(slots=True)
class HeifItem:
    """An item of a `meta` box: a coded image, a grid of images, or metadata."""

    kind: bytes = b""
    extents: list[Extent] = field(default_factory=list)
    properties: list[Box] = field(default_factory=list)


@dataclass(slots=True)
class Meta:
    """The items of a `meta` box, and their references."""

    primary: int = 0
    items: dict[int, HeifItem] = field(default_factory=dict)
    #: Targets by type and source, in order; sources by type and target, each once.
    _targets: dict[tuple[bytes, int], list[int]] = field(default_factory=dict)
    _sources: dict[tuple[bytes, int], dict[int, None]] = field(default_factory=dict)

    def item(self, item_id: int) -> HeifItem:
        """Return an item; a new one if no box described it before."""
        return self.items.setdefault(item_id, HeifItem())

    def refer(self, kind: bytes, source: int, target: int) -> None:
        """Add a reference."""
        self._targets.setdefault((kind, source), []).append(target)
        self._sources.setdefault((kind, target), {})[source] = None

    def targets(self, kind: bytes, source: int) -> list[int]:
        """Return the items to which an item refers, in order; an item may occur several times."""
        return self._targets.get((kind, source), [])

    def sources(self, kind: bytes, target: int) -> list[int]:
        """Return the items that refer to an item, each once."""
        return list(self._sources.get((kind, target), ()))


def damaged(reason: str) -> ItemRejected:
    """Return the error of a file whose boxes contradict each other."""
    return ItemRejected(ErrorCode.IMAGE_INVALID, f"the image file is damaged: {reason}")


def read_boxes(data: bytes, start: int, end: int, *, strict: bool = True) -> Iterator[Box]:
    """Yield the boxes between two offsets.

    Raises ItemRejected for a box that exceeds them; without `strict`, the file ends before such a
    box, since some cameras append data that is not a box.
    """
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1:
            size = int.from_bytes(data[content : content + 8], "big")
            content += 8
        elif size == 0:
            # The last box: it reaches to the end.
            size = end - start
        if not content - start <= size <= end - start:
            if strict:
                raise damaged("a box is longer than its file, or has a wrong length")
            return
        yield Box(kind, start, content, start + size)
        start += size
    raise too_complex("boxes")


class Fields:
    """A reader of the numbers in a box, which counts table entries."""

    def __init__(self, data: bytes | memoryview, box: Box) -> None:
        self._data = data
        self._offset = box.start
        self._end = box.end

    @property
    def offset(self) -> int:
        """The offset of the next field."""
        return self._offset

    def number(self, size: int) -> int:
        """Read an unsigned number of `size` bytes. Raises ItemRejected at the end of the box."""
        start, self._offset = self._offset, self._offset + size
        if self._offset > self._end:
            raise damaged("a box ends early")
        return int.from_bytes(self._data[start : self._offset], "big")

    def version(self) -> tuple[int, int]:
        """Read version and flags of a full box."""
        return self.number(1), self.number(3)


class MetaReader:
    """A reader of one `meta` box."""

    def __init__(self, data: bytes, box: Box) -> None:
        self._data = data
        self._box = box
        self._meta = Meta()
        self._entries = 0
        self._idat: Box | None = None

    def read(self) -> Meta:
        """Return the items. Raises ItemRejected for boxes that no image needs."""
        children = list(read_boxes(self._data, self._box.start + 4, self._box.end))
        if sum(box.end - box.offset for box in children if box.kind != b"idat") > MAX_META_BYTES:
            raise too_complex("bytes of metadata boxes")
        by_kind = {box.kind: box for box in children}
        if len(by_kind) < len(children):
            raise damaged("a box occurs twice")
        self._idat = by_kind.get(b"idat")
        readers = {
            b"pitm": self._read_primary,
            b"iinf": self._read_items,
            b"iloc": self._read_locations,
            b"iprp": self._read_properties,
            b"iref": self._read_references,
        }
        for kind, read in readers.items():
            if kind in by_kind:
                read(by_kind[kind])
        return self._meta

    def _count(self, entries: int) -> int:
        self._entries += entries
        if self._entries > MAX_ENTRIES:
            raise too_complex("table entries")
        return entries

    def _read_primary(self, box: Box) -> None:
        fields = Fields(self._data, box)
        version, _ = fields.version()
        self._meta.primary = fields.number(4 if version else 2)

    def _read_items(self, box: Box) -> None:
        fields = Fields(self._data, box)
        version, _ = fields.version()
        self._count(fields.number(4 if version else 2))
        for child in read_boxes(self._data, fields.offset, box.end):
            entry = Fields(self._data, child)
            version, _ = entry.version()
            if child.kind != b"infe" or version < 2:
                continue
            item = self._meta.item(entry.number(2 if version == 2 else 4))
            entry.number(2)
            item.kind = entry.number(4).to_bytes(4, "big")

    def _read_locations(self, box: Box) -> None:
        fields = Fields(self._data, box)
        version, _ = fields.version()
        sizes = fields.number(2)
        offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
        index_size = sizes & 15 if version else 0
        claimed = 0
        for _ in range(self._count(fields.number(4 if version == 2 else 2))):
            item = self._meta.item(fields.number(4 if version == 2 else 2))
            in_idat = fields.number(2) & 15 == 1 if version else False
            fields.number(2)
            start = fields.number(base_size)
            within = self._idat if in_idat else None
            start += within.start if within else 0
            for _ in range(self._count(fields.number(2))):
                fields.number(index_size)
                offset = start + fields.number(offset_size)
                length = fields.number(length_size) or max(0, len(self._data) - offset)
                claimed += length
                if offset + length > len(self._data):
                    raise damaged("it is truncated")
                item.extents.append(Extent(offset, length))
        if claimed > len(self._data) + SHARED_BYTES:
            raise too_complex("bytes of items")

    def _read_properties(self, box: Box) -> None:
        children = list(read_boxes(self._data, box.start, box.end))
        containers = [child for child in children if child.kind == b"ipco"]
        if len(containers) != 1:
            raise damaged("it has no list of properties")
        properties = list(read_boxes(self._data, containers[0].start, containers[0].end))
        for child in children:
            if child.kind == b"ipma":
                self._associate(child, properties)

    def _associate(self, box: Box, properties: list[Box]) -> None:
        fields = Fields(self._data, box)
        version, flags = fields.version()
        width, mask = (2, 0x7FFF) if flags & 1 else (1, 0x7F)
        for _ in range(self._count(fields.number(4))):
            item = self._meta.item(fields.number(4 if version else 2))
            for _ in range(self._count(fields.number(1))):
                index = fields.number(width) & mask
                if 0 < index <= len(properties):
                    item.properties.append(properties[index - 1])

    def _read_references(self, box: Box) -> None:
        fields = Fields(self._data, box)
        version, _ = fields.version()
        width = 4 if version else 2
        for child in read_boxes(self._data, fields.offset, box.end):
            entry = Fields(self._data, child)
            source = entry.number(width)
            for _ in range(self._count(entry.number(2))):
                self._meta.refer(child.kind, source, entry.number(width))
