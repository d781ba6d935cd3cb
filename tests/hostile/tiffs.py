"""TIFFs made by hand: of strips or tiles that are encoded elsewhere."""

from __future__ import annotations

import struct

from PIL import Image

from tests.hostile.specimen import encoded, tiff

WIDTH, LENGTH, ROWS_PER_STRIP, OFFSETS, BYTE_COUNTS = 256, 257, 278, 273, 279
#: Entries of a TIFF of strips, and the same ones of tiles.
_TILE_TAGS = {OFFSETS: 324, BYTE_COUNTS: 325}
_FORMATS = {1: "B", 2: "s", 3: "H", 4: "I", 7: "B"}


def directory(data: bytes) -> dict[int, tuple[int, tuple[int, ...]]]:
    """Return type and integer values by tag, of a little-endian TIFF from Pillow."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entries = {}
    for position in range(start + 2, start + 2 + count * 12, 12):
        tag, kind, number = struct.unpack_from("<HHI", data, position)
        if kind not in (1, 3, 4, 7):
            continue
        form = f"<{number}{_FORMATS[kind]}"
        offset = position + 8
        if struct.calcsize(form) > 4:
            (offset,) = struct.unpack_from("<I", data, offset)
        entries[tag] = kind, struct.unpack_from(form, data, offset)
    return entries


def strips(data: bytes) -> list[bytes]:
    """Return the encoded strips of a TIFF from Pillow."""
    entries = directory(data)
    offsets, counts = entries[OFFSETS][1], entries[BYTE_COUNTS][1]
    return [data[start : start + size] for start, size in zip(offsets, counts, strict=True)]


def assembled(
    entries: dict[int, tuple[int, tuple[int, ...]]], parts: list[bytes], *, tiled: bool = False
) -> bytes:
    """Return a TIFF with these entries and encoded strips or tiles."""
    entries = {tag: entry for tag, entry in entries.items() if tag not in (OFFSETS, BYTE_COUNTS)}
    tags = _TILE_TAGS if tiled else {}
    count = len(entries) + 2
    heap_start = 8 + 2 + count * 12 + 4
    heap, offsets = b"", []
    for part in parts:
        offsets.append(heap_start + len(heap))
        heap += part + b"\0" * (len(part) % 2)
    entries[tags.get(OFFSETS, OFFSETS)] = 4, tuple(offsets)
    entries[tags.get(BYTE_COUNTS, BYTE_COUNTS)] = 4, tuple(len(part) for part in parts)
    rows = []
    for tag, (kind, values) in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
        if len(packed) <= 4:
            value = int.from_bytes(packed, "little")
        else:
            value = heap_start + len(heap)
            heap += packed + b"\0" * (len(packed) % 2)
        rows.append((tag, kind, len(values), value))
    return tiff(rows, heap)


def of_strips(images: list[Image.Image], compression: str, rows: int, height: int) -> bytes:
    """Return a TIFF whose strips are these images, and which declares these rows."""
    files = [
        encoded(image, "TIFF", compression=compression, tiffinfo={278: image.height})
        for image in images
    ]
    entries = directory(files[0])
    entries[LENGTH] = 4, (height,)
    entries[ROWS_PER_STRIP] = 4, (rows,)
    return assembled(entries, [strip for file in files for strip in strips(file)])


def of_tiles(
    images: list[Image.Image], compression: str, tile: tuple[int, int], size: tuple[int, int]
) -> bytes:
    """Return a TIFF whose tiles are these images, and which declares these sizes."""
    files = [
        encoded(image, "TIFF", compression=compression, tiffinfo={278: image.height})
        for image in images
    ]
    entries = directory(files[0])
    del entries[ROWS_PER_STRIP]
    entries |= {WIDTH: (4, (size[0],)), LENGTH: (4, (size[1],))}
    entries |= {322: (4, (tile[0],)), 323: (4, (tile[1],))}
    return assembled(entries, [strip for file in files for strip in strips(file)], tiled=True)
