"""Hostile JPEG 2000 files: codestreams that declare more tiles, blocks or layers than they have."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from tests.hostile.specimen import (
    ANSWERED,
    INVALID,
    TOO_LARGE,
    Specimen,
    encoded,
    picture,
    specimen,
)

#: Offsets in the SIZ marker of a codestream: image size, tile size, number of components.
_IMAGE: Final = 8
_TILE: Final = 24
_COMPONENTS: Final = 40
#: Offsets behind the COD marker: flags, layers, levels, and the exponents of a block's sides.
_FLAGS, _LAYERS, _LEVELS, _BLOCK = 4, 6, 9, 10


def codestreams() -> Iterator[Specimen]:
    """Yield the files."""
    data = encoded(picture(), "JPEG2000", no_jp2=True)
    yield from _sizes(data)
    yield from _tables(data)
    yield from _parts(data)
    yield from _boxes(encoded(picture(), "JPEG2000"))


def _put(data: bytes, offset: int, field: bytes) -> bytes:
    return data[:offset] + field + data[offset + len(field) :]


def _sized(data: bytes, width: int, height: int, tile: tuple[int, int] | None = None) -> bytes:
    data = _put(data, _IMAGE, struct.pack(">II", width, height))
    return _put(data, _TILE, struct.pack(">II", *(tile or (width, height))))


def _sizes(data: bytes) -> Iterator[Specimen]:
    for width, height in ((2**32 - 1, 2**32 - 1), (8001, 8000), (2_000_000, 1)):
        yield specimen(f"{width}x{height}.j2k", _sized(data, width, height), TOO_LARGE)
    yield specimen("0x0.j2k", _sized(data, 0, 0), INVALID)
    yield specimen("8000x8000-of-little.j2k", _sized(data, 8000, 8000), INVALID)
    yield specimen("tiles-of-8x8.j2k", _sized(data, 8000, 8000, (8, 8)), INVALID)
    yield specimen("tiles-of-0x0.j2k", _sized(data, 96, 72, (0, 0)), INVALID)
    yield specimen("one-tile-of-4096.j2k", _sized(data, 4096, 4096, (64, 64)), INVALID)
    for components in (0, 5, 16_384, 65_535):
        many = _put(data, _COMPONENTS, struct.pack(">H", components))
        yield specimen(f"{components}-components.j2k", many, INVALID)


def _tables(data: bytes) -> Iterator[Specimen]:
    large, start = _sized(data, 8000, 8000), data.index(b"\xff\x52")
    yield specimen("33-levels.j2k", _put(data, start + _LEVELS, b"\x21"), INVALID)
    for side in (0, 1, 2):
        small = _put(large, start + _BLOCK, bytes([side, side]))
        yield specimen(f"blocks-of-{4 << side}.j2k", small, INVALID)
    for exponent in (0x00, 0x11, 0x44):
        yield specimen(f"precincts-{exponent:x}.j2k", _precincts(large, start, exponent), INVALID)
    layers = _put(_precincts(large, start, 0x88), start + _LAYERS, b"\xff\xff")
    yield specimen("65535-layers.j2k", layers, INVALID)


def _precincts(data: bytes, start: int, exponent: int) -> bytes:
    levels = data[start + _LEVELS] + 1
    head = data[: start + 2] + struct.pack(">HB", 12 + levels, data[start + _FLAGS] | 1)
    end = start + _BLOCK + 4
    return head + data[start + _FLAGS + 1 : end] + bytes([exponent]) * levels + data[end:]


def _parts(data: bytes) -> Iterator[Specimen]:
    start = data.index(b"\xff\x90")
    part = b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 14, 0, 0) + b"\xff\x93"
    yield specimen("many-tile-parts.j2k", data[:start] + part * 100_000, INVALID)
    comments = b"\xff\x64\0\2" * 100_000
    yield specimen("many-markers.j2k", data[:start] + comments + data[start:], INVALID)
    for length in (1, 13, 2**32 - 1):
        odd = _put(data, start + 6, struct.pack(">I", length))
        yield specimen(f"tile-part-of-{length}.j2k", odd, INVALID)
    yield specimen("tile-part-to-the-end.j2k", _put(data, start + 6, bytes(4)), ANSWERED, INVALID)
    for code in (0x51, 0x52, 0x5F, 0x60, 0x30, 0xD9):
        inserted = data[:start] + bytes([0xFF, code, 0, 2]) + data[start:]
        yield specimen(f"marker-{code:x}.j2k", inserted, INVALID, ANSWERED)
    own = data[: start + 12] + data[data.index(b"\xff\x52") : start] + data[start + 12 :]
    yield specimen("options-of-a-tile.j2k", own, INVALID)


def _boxes(data: bytes) -> Iterator[Specimen]:
    start = data.index(b"jp2h")
    long = struct.pack(">I4s", 3_000_008, b"jp2h") + bytes(3_000_000)
    yield specimen("a-long-header.jp2", data[: start - 4] + long + data[start - 4 :], INVALID)
    flood = struct.pack(">I4s", 8, b"free") * 200_000
    yield specimen("many-boxes.jp2", data[:12] + flood + data[12:], INVALID)
    size = data.index(b"ihdr") + 4
    yield specimen("header-65535x65535.jp2", _put(data, size, b"\0\0\xff\xff" * 2), TOO_LARGE)
    yield specimen("header-9x9.jp2", _put(data, size, b"\0\0\0\x09" * 2), INVALID, ANSWERED)
    yield specimen("no-codestream.jp2", data[: data.index(b"jp2c") - 4], INVALID)
    palette = struct.pack(">I4sHB", 8 + 3 + 4 + 65_535 * 4, b"pclr", 65_535, 4) + b"\7" * 4
    palette += bytes(65_535 * 4)
    grown = int.from_bytes(data[start - 4 : start], "big") + len(palette)
    with_palette = data[: start - 4] + struct.pack(">I4s", grown, b"jp2h") + data[start + 4 :]
    end = start - 4 + grown - len(palette)
    yield specimen(
        "a-palette-of-65535.jp2",
        with_palette[:end] + palette + with_palette[end:],
        ANSWERED,
        INVALID,
    )
