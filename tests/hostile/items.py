"""HEIC and AVIF files built item by item, whose references repeat what a reader must do once."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.hostile.containers import box
from tests.hostile.specimen import INVALID, Specimen, specimen

PRIMARY: Final = 1
_HANDLER: Final = bytes(4) + b"pict" + bytes(13)


class Item(NamedTuple):
    """An item: its type, its data, and how many of its properties are its size, 1 x 1."""

    kind: bytes
    data: bytes = b"\0"
    sizes: int = 1


class Reference(NamedTuple):
    """A reference from an item to others; `auxl` refers from an auxiliary image to its image."""

    kind: bytes
    source: int
    targets: list[int]


def grid(rows: int, columns: int) -> Item:
    """Return the item of a grid of 1 x 1 pixels."""
    return Item(b"grid", struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, 1, 1))


def built(items: dict[int, Item], references: list[Reference]) -> bytes:
    """Return a file of these items by id, of which PRIMARY is the image that is decoded."""
    codec = b"avif" if any(item.kind == b"av01" for item in items.values()) else b"heic"
    head = box(b"ftyp", codec + bytes(4) + b"mif1" + codec)
    offset = len(head) + 8
    entries, locations, associations = b"", b"", b""
    for item_id, item in items.items():
        entries += _full(b"infe", struct.pack(">HH4sB", item_id, 0, item.kind, 0), version=2)
        locations += struct.pack(">HHHII", item_id, 0, 1, offset, len(item.data))
        associations += struct.pack(">HB", item_id, item.sizes) + b"\1" * item.sizes
        offset += len(item.data)
    count = struct.pack(">H", len(items))
    links = b"".join(
        box(kind, struct.pack(f">HH{len(targets)}H", source, len(targets), *targets))
        for kind, source, targets in references
    )
    size = _full(b"ispe", struct.pack(">II", 1, 1))
    table = _full(b"ipma", struct.pack(">I", len(items)) + associations)
    boxes = (
        _full(b"hdlr", _HANDLER),
        _full(b"pitm", struct.pack(">H", PRIMARY)),
        _full(b"iinf", count + entries),
        _full(b"iloc", b"\x44\0" + count + locations),
        box(b"iprp", box(b"ipco", size) + table),
        _full(b"iref", links),
    )
    data = b"".join(item.data for item in items.values())
    return head + box(b"mdat", data) + _full(b"meta", b"".join(boxes))


def repetitions() -> Iterator[Specimen]:
    """Yield files whose references name the same items again and again."""
    image = Item(b"hvc1")
    tiles = Reference(b"dimg", 2, [3] * 89 * 89)
    often = [tiles, Reference(b"auxl", 2, [PRIMARY] * 8000)]
    shared = {PRIMARY: image, 2: grid(89, 89), 3: image}
    yield specimen("an-auxiliary-8000-times.heic", built(shared, often), INVALID)
    apart = [tiles, *[Reference(b"auxl", 2, [PRIMARY])] * 1000]
    yield specimen("an-auxiliary-in-1000-boxes.heic", built(shared, apart), INVALID)
    repeated = {PRIMARY: grid(125, 128), 2: image}
    same = [Reference(b"dimg", PRIMARY, [2] * 16_000)]
    yield specimen("a-tile-16000-times.heic", built(repeated, same), INVALID)
    many = {PRIMARY: image} | dict.fromkeys(range(2, 900), image)
    each = [Reference(b"auxl", item, [PRIMARY]) for item in range(2, 900)]
    yield specimen("900-auxiliaries.heic", built(many, each), INVALID)
    cycle = [Reference(b"auxl", item, list(many)) for item in range(2, 14)]
    yield specimen("auxiliaries-of-each-other.heic", built(many, cycle), INVALID)


def _full(kind: bytes, body: bytes, version: int = 0) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]) + body)
