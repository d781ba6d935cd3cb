"""Hostile AVIF and HEIC files: boxes that claim more, nest deeper or end earlier than they may."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.hostile.specimen import (
    ANSWERED,
    ANY,
    INVALID,
    TOO_LARGE,
    Specimen,
    encoded,
    heic,
    picture,
    specimen,
)


def containers() -> Iterator[Specimen]:
    """Yield the files of both formats."""
    avif, heif = encoded(picture(), "AVIF"), heic(picture())
    for form, data in (("avif", avif), ("heic", heif)):
        yield from _sizes(form, data)
        yield from _tables(form, data)
        yield from _nesting(form, data)
        yield from _brands(form, data)
        yield from _order(form, data)
    yield from _grids(heic(picture(256, 192), tile_size=64))
    yield from _streams(avif)
    yield from _sequences()


def box(kind: bytes, body: bytes, size: int | None = None) -> bytes:
    """Return a box, which may claim another size."""
    return struct.pack(">I4s", len(body) + 8 if size is None else size, kind) + body


def _replaced(data: bytes, kind: bytes, offset: int, field: bytes, nth: int = 0) -> bytes:
    """Return a file with a field of a box overwritten; offsets count from the box's content."""
    start = -1
    for _ in range(nth + 1):
        start = data.index(kind, start + 1)
    start += 4 + offset
    return data[:start] + field + data[start + len(field) :]


def _sizes(form: str, data: bytes) -> Iterator[Specimen]:
    def sized(width: int, height: int) -> bytes:
        return _replaced(data, b"ispe", 4, struct.pack(">II", width, height))

    for width, height in ((2**32 - 1, 2**32 - 1), (60_000, 60_000), (8001, 8000), (1 << 31, 1)):
        yield specimen(f"{width}x{height}.{form}", sized(width, height), TOO_LARGE)
    for width, height in ((0, 0), (1, 1), (96, 71)):
        yield specimen(f"{width}x{height}.{form}", sized(width, height), INVALID)
    # Libavif scales the frame to the declared size.
    yield specimen(f"7999x7999-of-little.{form}", sized(7999, 7999), INVALID, ANSWERED)
    yield specimen(f"without-size.{form}", _replaced(data, b"ispe", -4, b"skip"), INVALID)


def _tables(form: str, data: bytes) -> Iterator[Specimen]:
    yield Specimen(f"many-items.{form}", _replaced(data, b"iinf", 4, b"\xff\xff"), ANY)
    yield specimen(f"many-locations.{form}", _replaced(data, b"iloc", 6, b"\xff\xff"), INVALID)
    yield specimen(f"many-associations.{form}", _replaced(data, b"ipma", 4, b"\xff" * 4), INVALID)
    yield specimen(f"no-such-item.{form}", _replaced(data, b"pitm", 4, b"\x7f\x7f"), INVALID)
    yield specimen(f"no-boxes.{form}", data[: data.index(b"meta") + 4], INVALID)
    yield specimen(f"empty-meta.{form}", data[:32] + box(b"meta", bytes(4)), INVALID)
    many = box(b"meta", bytes(4) + box(b"free", b"") * 200_000)
    yield specimen(f"many-boxes.{form}", _head(data) + many, INVALID)
    yield specimen(f"two-metas.{form}", _head(data) + _meta(data) * 2, INVALID)
    long = box(b"meta", bytes(4) + box(b"hdlr", bytes(3_000_000)))
    yield specimen(f"a-long-meta.{form}", _head(data) + long, INVALID)


def _nesting(form: str, data: bytes) -> Iterator[Specimen]:
    nested = b""
    for _ in range(2000):
        nested = box(b"meta", bytes(4) + nested)
    yield specimen(f"nested.{form}", _head(data) + nested, INVALID)
    nested = b""
    for _ in range(2000):
        nested = box(b"ipco", nested)
    deep = box(b"meta", bytes(4) + box(b"iprp", nested))
    yield specimen(f"nested-properties.{form}", _head(data) + deep, INVALID)
    for size in (1, 2, 7, 2**32 - 1):
        wrong = _replaced(data, b"meta", -8, struct.pack(">I", size))
        yield specimen(f"meta-of-{size}.{form}", wrong, INVALID)
        wrong = _replaced(data, b"ispe", -8, struct.pack(">I", size))
        yield specimen(f"property-of-{size}.{form}", wrong, INVALID)
    huge = _head(data) + struct.pack(">I4sQ", 1, b"meta", 2**64 - 1) + _meta(data)[8:]
    yield specimen(f"meta-of-16-exabytes.{form}", huge, INVALID)
    # A size of 0 reaches to the end, and a size of 1 is followed by one of 64 bits.
    last = _replaced(data, b"mdat", -8, bytes(4))
    yield specimen(f"last-box-of-0.{form}", last, ANSWERED)


def _brands(form: str, data: bytes) -> Iterator[Specimen]:
    end = int.from_bytes(data[:4], "big")
    for brand in (b"mif1", b"miaf", b"isom", b"crx ", b"\0\0\0\0"):
        name = brand.hex()
        branded = data[:8] + brand + data[12:]
        yield Specimen(f"brand-{name}.{form}", branded, frozenset({ANSWERED, INVALID}))
        alone = data[:8] + brand + bytes(end - 12) + data[end:]
        yield specimen(f"only-brand-{name}.{form}", alone, INVALID, ANSWERED)
    flood = box(b"ftyp", data[8:16] + b"mif1" * 500_000)
    yield Specimen(f"many-brands.{form}", flood + data[end:], frozenset({ANSWERED, INVALID}))


def _order(form: str, data: bytes) -> Iterator[Specimen]:
    yield specimen(f"junk-behind.{form}", data + b"SEFT" * 100, ANSWERED)
    yield specimen(f"boxes-behind.{form}", data + box(b"free", b"") * 200_000, INVALID)


def _grids(data: bytes) -> Iterator[Specimen]:
    yield specimen("grid.heic", data, ANSWERED)
    # The content of the grid: version, flags, rows - 1, columns - 1, width, height.
    start = data.index(struct.pack(">BBBBHH", 0, 0, 2, 3, 256, 192))

    def grid(*fields: int) -> bytes:
        return data[:start] + struct.pack(">BBBBHH", *fields) + data[start + 8 :]

    yield specimen("huge-grid.heic", grid(0, 0, 2, 3, 65_535, 65_535), TOO_LARGE)
    yield specimen("256x256-tiles.heic", grid(0, 0, 255, 255, 256, 192), INVALID)
    yield specimen("one-tile.heic", grid(0, 0, 0, 0, 256, 192), INVALID)
    for nth in range(2):
        large = _replaced(data, b"ispe", 4, struct.pack(">II", 7900, 7900), nth)
        yield specimen(f"large-size-{nth}.heic", large, INVALID, ANSWERED)
    references = data.index(b"dimg") + 4
    # Each tile is the grid itself.
    source, count = struct.unpack_from(">HH", data, references)
    loop = struct.pack(">H", source) * count
    yield specimen(
        "grid-of-itself.heic",
        data[: references + 4] + loop + data[references + 4 + 2 * count :],
        INVALID,
    )


def _streams(data: bytes) -> Iterator[Specimen]:
    """Yield AV1 streams that contradict their file."""
    start = data.index(b"mdat") + 4
    for size in (0, 1, 3, 8):
        emptied = data[:start] + data[start : start + size] + bytes(len(data) - start - size)
        yield specimen(f"stream-of-{size}.avif", emptied, INVALID)
    padded = data[:start] + b"\x12\x00" * ((len(data) - start) // 2)
    yield Specimen("delimiters.avif", padded.ljust(len(data), b"\0"), frozenset({INVALID}))


def _sequences() -> Iterator[Specimen]:
    frames = [picture(seed=seed) for seed in range(3)]
    moving = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    yield specimen("moving.avif", moving, ANSWERED)
    without = moving.replace(b"meta", b"skip", 1)
    yield specimen("moving-without-still.avif", without, INVALID)
    # The tables of the movie claim four billion frames.
    yield specimen("endless.avif", _replaced(moving, b"stsz", 8, b"\xff" * 4), ANSWERED)
    yield specimen("damaged-movie.avif", _replaced(moving, b"moov", 0, b"\xff" * 40), ANSWERED)


def _head(data: bytes) -> bytes:
    return data[: int.from_bytes(data[:4], "big")]


def _meta(data: bytes) -> bytes:
    start = data.index(b"meta") - 4
    return data[start : start + int.from_bytes(data[start : start + 4], "big")]
