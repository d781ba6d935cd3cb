"""Files that hold fewer pixels than they declare: Pillow answers some with a rest of memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from tests.hostile.specimen import (
    ANSWERED,
    INVALID,
    Specimen,
    chunk,
    encoded,
    ihdr,
    picture,
    png,
    specimen,
    tiff,
)
from tests.hostile.tiffs import LENGTH, assembled, directory, of_strips, of_tiles, strips

#: Modes by compression.
COMPRESSIONS = {
    "jpeg": ("L", "RGB", "CMYK"),
    "group3": ("1",),
    "group4": ("1",),
    "tiff_ccitt": ("1",),
    "tiff_lzw": ("1", "L", "RGB", "I;16", "F"),
    "tiff_adobe_deflate": ("L", "RGBA"),
    "packbits": ("L", "RGB"),
    "raw": ("1", "L", "RGB", "I", "F"),
}


def incomplete() -> Iterator[Specimen]:
    """Yield incomplete files, and the complete ones of the same kind."""
    for compression, modes in COMPRESSIONS.items():
        for mode in modes:
            yield from _tiffs(compression, mode)
    yield from _raw_tiffs()
    yield from _ycbcr_tiffs()
    yield from _pngs()


def _tiffs(compression: str, mode: str) -> Iterator[Specimen]:
    image = picture(48, 32).convert("L" if len(mode) > 2 or mode == "F" else mode)
    image = image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    name = f"{compression}-{mode.replace(';', '-')}.tif"
    top = image.crop((0, 0, 48, 7))
    yield specimen(f"one-strip-{name}", of_strips([image], compression, 32, 32), ANSWERED)
    yield specimen(f"two-strips-{name}", of_strips([image] * 2, compression, 32, 64), ANSWERED)
    yield specimen(f"last-strip-{name}", of_strips([image, top], compression, 32, 39), ANSWERED)
    yield specimen(f"short-strip-{name}", of_strips([image], compression, 480, 480), INVALID)
    # libtiff fills the first missing row of group 4, the end of its data, with white.
    yield specimen(f"two-rows-less-{name}", of_strips([image], compression, 34, 34), INVALID)
    two = [image, top]
    yield specimen(f"short-second-{name}", of_strips(two, compression, 32, 64), INVALID)
    # Pillow reads uncompressed rows on, across the end of a strip.
    inner = ANSWERED if compression == "raw" else INVALID
    yield specimen(f"short-first-{name}", of_strips(two[::-1], compression, 32, 64), inner)
    yield specimen(f"no-second-{name}", of_strips([image], compression, 32, 64), INVALID)
    tile, size = (48, 32), (90, 60)
    yield specimen(f"tiles-{name}", of_tiles([image] * 4, compression, tile, size), ANSWERED)
    short = [image, image, top, image]
    yield specimen(f"short-tile-{name}", of_tiles(short, compression, tile, size), inner)
    yield specimen(f"no-tile-{name}", of_tiles([image] * 3, compression, tile, size), INVALID)


def _raw_tiffs() -> Iterator[Specimen]:
    size = [(256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2)]
    planes = [(273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, 9), (279, 4, 1, 81), (284, 3, 1, 2)]
    yield specimen("one-plane-of-three.tif", tiff(size + planes, bytes(1000)), INVALID)


def _ycbcr_tiffs() -> Iterator[Specimen]:
    """Yield TIFFs that libtiff converts to RGB, in one strip and in odd sizes."""
    for width, height, compression in ((48, 32, 5), (37, 23, 5), (37, 23, 8)):
        image = picture(width, height).convert("YCbCr")
        name = {5: "tiff_lzw", 8: "tiff_adobe_deflate"}[compression]
        data = of_strips([image], name, height, height)
        entries = directory(data) | {530: (3, (1, 1))}
        yield specimen(f"ycbcr-{width}-{name}.tif", assembled(entries, strips(data)), ANSWERED)
        entries[LENGTH] = entries[278] = 4, (height + 9,)
        short = assembled(entries, strips(data))
        yield specimen(f"short-ycbcr-{width}-{name}.tif", short, INVALID)
    for width, height in ((48, 32), (37, 23)):
        jpeg = encoded(picture(width, height), "TIFF", compression="jpeg")
        yield specimen(f"ycbcr-{width}-jpeg.tif", jpeg, ANSWERED)


def _pngs() -> Iterator[Specimen]:
    width, height = 40, 24
    #: Bits of a pixel, and the entries of the header.
    kinds = {"1": (1, 1, 0), "L": (8, 8, 0), "16": (16, 16, 0), "P": (8, 8, 3), "RGB": (24, 8, 2)}
    kinds |= {"RGB16": (48, 16, 2), "RGBA": (32, 8, 6), "LA": (16, 8, 4)}
    for name, (bits, depth, colour) in kinds.items():
        palette = chunk(b"PLTE", bytes(range(256)) * 3) if colour == 3 else b""
        for value in (0x00, 0x5A, 0xFF, 0x31):

            def row(columns: int, bits: int = bits, value: int = value) -> bytes:
                return b"\0" + bytes([value]) * -(-columns * bits // 8)

            plain = [row(width)] * height
            head = ihdr(width, height, depth, colour) + palette
            woven = [
                row(columns) for columns, count in _passes(width, height) for _ in range(count)
            ]
            laced = ihdr(width, height, depth, colour, 1) + palette
            for form, start, lines in (("plain", head, plain), ("laced", laced, woven)):
                for missing in (0, 1, 5):
                    body = zlib.compress(b"".join(lines[: len(lines) - missing]))
                    data = png(start, chunk(b"IDAT", body))
                    outcome = INVALID if missing else ANSWERED
                    yield specimen(f"{name}-{form}-{value}-without-{missing}.png", data, outcome)
    flat = ihdr(9, 1, 8, 0, 1)
    for values, outcome in ((bytes(14), ANSWERED), (bytes(8), INVALID)):
        body = chunk(b"IDAT", zlib.compress(values))
        yield specimen(f"one-row-of-{len(values)}.png", png(flat, body), outcome)


def _passes(width: int, height: int) -> Iterator[tuple[int, int]]:
    """Yield columns and rows of the passes of an interlaced PNG."""
    for x, y, step_x, step_y in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
        *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        yield len(range(x, width, step_x)), len(range(y, height, step_y))
