"""Decompression bombs: files that claim more pixels, tags, frames or blocks than they have."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from tests.hostile.specimen import (
    ANSWERED,
    INVALID,
    TOO_LARGE,
    Specimen,
    chunk,
    encoded,
    ihdr,
    picture,
    png,
    segment,
    specimen,
    tiff,
)

_PIXELS = chunk(b"IDAT", zlib.compress(bytes(1000)))


def bombs() -> Iterator[Specimen]:
    """Yield the bombs of all formats."""
    yield from _png_bombs()
    yield from _png_floods()
    yield from _jpeg_bombs()
    yield from _gif_bombs()
    yield from _webp_bombs()
    yield from _tiff_bombs()
    yield from _bmp_bombs()
    yield from _ppm_bombs()


def _png_bombs() -> Iterator[Specimen]:
    row = zlib.compressobj(9)
    packed = b"".join(row.compress(bytes(7501)) for _ in range(2000)) + row.flush()
    yield specimen(
        "60000x60000.png", png(ihdr(60_000, 60_000, 1, 0), chunk(b"IDAT", packed)), TOO_LARGE
    )
    for width, height in ((2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (1, 60_000_000), (8001, 8000)):
        yield specimen(f"{width}x{height}.png", png(ihdr(width, height), _PIXELS), TOO_LARGE)
    yield specimen("0x0.png", png(ihdr(0, 0), _PIXELS), INVALID)
    yield specimen("8000x8000-of-nothing.png", png(ihdr(8000, 8000), _PIXELS), INVALID)
    yield specimen("8000x8000-interlaced.png", png(ihdr(8000, 8000, 8, 6, 1), _PIXELS), INVALID)
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    frame = struct.pack(">IIIIIHHBB", 0, 60_000, 60_000, 0, 0, 1, 1, 1, 0)
    # Opening the file already fills the area to clear after the frame.
    large = png(ihdr(60_000, 60_000, 8, 6), control, chunk(b"fcTL", frame), _PIXELS)
    yield specimen("60000x60000-cleared.apng", large, TOO_LARGE)
    # Pillow uses the second header.
    twice = png(ihdr(9, 9, 8, 6), ihdr(60_000, 60_000, 8, 6), control, chunk(b"fcTL", frame))
    yield specimen("two-headers.apng", twice, TOO_LARGE)


def _png_floods() -> Iterator[Specimen]:
    head, pixels = ihdr(9, 9), chunk(b"IDAT", zlib.compress(bytes(9 * 28)))
    zeros = zlib.compress(bytes(30_000_000), 9)
    fits = zlib.compress(bytes(1 << 20), 9)
    yield specimen("text-bomb.png", png(head, chunk(b"zTXt", b"a\0\0" + zeros), pixels), ANSWERED)
    yield specimen(
        "profile-bomb.png", png(head, chunk(b"iCCP", b"a\0\0" + zeros), pixels), ANSWERED
    )
    texts = [chunk(b"zTXt", b"%d\0\0" % n + fits) for n in range(500)]
    yield specimen("500-texts.png", png(head, *texts, pixels), ANSWERED)
    profiles = [chunk(b"iCCP", b"a\0\0" + fits)] * 2000
    yield specimen("2000-profiles.png", png(head, *profiles, pixels), ANSWERED)
    yield specimen("small-chunks.png", png(head, *[chunk(b"abCd", b"")] * 50_000, pixels), ANSWERED)
    yield specimen("late-chunks.png", png(head, pixels, *[chunk(b"abCd", b"")] * 50_000), ANSWERED)
    yield specimen(
        "empty-pixel-chunks.png", png(head, *[chunk(b"IDAT", b"")] * 50_000, pixels), ANSWERED
    )
    flood = bytes(12) * (1 << 18)
    yield specimen("endless-chunks.png", png(head, flood, pixels), INVALID)
    data = zlib.compress(bytes(9 * 28), 0)
    tiny = [chunk(b"IDAT", data[n : n + 1]) for n in range(len(data))]
    yield specimen("a-byte-a-chunk.png", png(head, *tiny), ANSWERED)
    exif = b"MM\0\x2a" + struct.pack(">IH", 8, 65_535)
    exif += b"".join(struct.pack(">HHII", n, 2, 900_000, 0) for n in range(60_000)) + bytes(200_000)
    yield specimen("tags-that-share.exif.png", png(head, chunk(b"eXIf", exif), pixels), ANSWERED)
    raw = (
        b"\nexif\n  10\n"
        + b"45786966000049492a0008000000ffff"
        + b"01000200ffff000008000000" * 40_000
    )
    hidden = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw))
    yield specimen("tags-in-text.png", png(head, hidden, pixels), ANSWERED)
    odd = chunk(b"tEXt", b"Raw profile type exif\0\n\n\nnot hexadecimal")
    yield specimen("no-tags-in-text.png", png(head, odd, pixels), ANSWERED)
    wrong = bytearray(png(head, pixels))
    wrong[-20] ^= 1
    yield specimen("wrong-checksum.png", bytes(wrong), INVALID)


def _jpeg_bombs() -> Iterator[Specimen]:
    plain = encoded(picture(), "JPEG")
    frame = plain.index(b"\xff\xc0")

    def sized(width: int, height: int, kind: bytes = b"\xc0") -> bytes:
        size = struct.pack(">HH", height, width)
        return plain[: frame + 1] + kind + plain[frame + 2 : frame + 5] + size + plain[frame + 9 :]

    yield specimen("65535x65535.jpg", sized(65_535, 65_535), TOO_LARGE)
    yield specimen("8000x8000-of-little.jpg", sized(8000, 8000), ANSWERED, INVALID)
    yield specimen("0x0.jpg", sized(0, 0), INVALID)
    for kind in (0xC1, 0xC3, 0xC5, 0xC9, 0xCB, 0xCF):
        yield specimen(f"frame-{kind:x}.jpg", sized(96, 72, bytes([kind])), INVALID, ANSWERED)

    def with_segments(segments: bytes) -> bytes:
        return plain[:2] + segments + plain[2:]

    marks = segment(0xE5, b"")
    yield specimen("many-markers.jpg", with_segments(marks * 263_000), INVALID)
    yield specimen("some-markers.jpg", with_segments(marks * 300), ANSWERED)
    yield specimen("junk.jpg", with_segments(bytes(2_000_000)), INVALID)
    yield specimen("many-frames.jpg", with_segments(plain[frame : frame + 19] * 900), INVALID)
    names = segment(0xED, b"Photoshop 3.0\0" + b"8BIM\0\1\0\0\0\0\0\0" * 5000)
    yield specimen("photoshop.jpg", with_segments(names * 100), ANSWERED)
    tag = struct.pack("<HHII", 700, 5, 8000, 8)
    exif = b"Exif\0\0II\x2a\0" + struct.pack("<IH", 8, 5000) + tag * 5000 + bytes(5000)
    yield specimen("huge-exif.jpg", with_segments(segment(0xE1, exif) * 20), ANSWERED)
    index = b"MPF\0II\x2a\0" + struct.pack("<IH", 8, 5000)
    index += b"".join(struct.pack("<HHII", n, 5, 8000, 8) for n in range(5000)) + bytes(5000)
    yield specimen("index-of-numbers.mpo", with_segments(segment(0xE2, index)), ANSWERED)
    loop = b"Exif\0\0II\x2a\0" + struct.pack("<IHHHIIHHII", 8, 2, 34665, 4, 1, 8, 274, 3, 1, 6)
    loop += struct.pack("<I", 8)
    yield specimen("exif-loop.jpg", with_segments(segment(0xE1, loop)), ANSWERED)
    for offset in (0, 7, 2**32 - 1):
        bad = b"Exif\0\0MM\0\x2a" + struct.pack(">I", offset)
        yield specimen(f"exif-at-{offset}.jpg", with_segments(segment(0xE1, bad)), ANSWERED)
    profile = b"ICC_PROFILE\0\1\xff" + bytes(60_000)
    yield specimen("profiles.jpg", with_segments(segment(0xE2, profile) * 30), ANSWERED)
    yield specimen(
        "broken-profile.jpg", with_segments(segment(0xE2, profile[:13])), INVALID, ANSWERED
    )
    # Each scan visits all 60 million pixels, and is empty.
    empty = b"\xff\xda\0\x08\1\1\0\1\1\0" + b"\x00"
    scans = sized(8000, 7500, b"\xc2") + empty * 20_000
    yield specimen("many-scans.jpg", scans, INVALID)


def _gif_bombs() -> Iterator[Specimen]:
    def gif(screen: tuple[int, int], *blocks: bytes) -> bytes:
        return b"GIF89a" + struct.pack("<HHBBB", *screen, 0, 0, 0) + b"".join(blocks) + b";"

    def image(width: int, height: int) -> bytes:
        return b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"

    control = b"!\xf9\x04\x08\0\0\0\0"
    yield specimen("small-on-65535x65535.gif", gif((65_535, 65_535), image(1, 1)), TOO_LARGE)
    yield specimen("65535x65535-on-small.gif", gif((1, 1), image(65_535, 65_535)), TOO_LARGE)
    # Opening the file already fills the area to clear after the frame.
    yield specimen(
        "65535x65535-cleared.gif", gif((1, 1), control, image(65_535, 65_535)), TOO_LARGE
    )
    yield specimen("0x0.gif", gif((0, 0), image(0, 0)), INVALID)
    yield specimen("no-picture.gif", gif((9, 9)), INVALID)
    frames = [picture(20, 20).quantize(8)] + [
        picture(20, 20, seed=n).quantize(8) for n in range(200)
    ]
    many = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:] * 10)
    yield specimen("thousands-of-frames.gif", many, ANSWERED)
    comments = b"!\xfe" + b"\xff" + b"x" * 255
    yield specimen(
        "a-long-comment.gif", gif((9, 9), comments[:2] + comments[2:] * 20_000 + b"\0"), INVALID
    )
    yield specimen("many-comments.gif", gif((9, 9), (b"!\xfe\x01x\0") * 263_000), INVALID)
    yield specimen("many-extensions.gif", gif((9, 9), (b"!\xff\x01x\0") * 263_000), INVALID)
    yield specimen("junk.gif", gif((9, 9), bytes(3_000_000)), INVALID)


def _webp_bombs() -> Iterator[Specimen]:
    def webp(*chunks: bytes) -> bytes:
        body = b"WEBP" + b"".join(chunks)
        return b"RIFF" + struct.pack("<I", len(body)) + body

    def riff(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    small = encoded(picture(16, 16), "WEBP")[12:]
    canvas = riff(b"VP8X", b"\x02\0\0\0" + b"\xff\xff\xff" * 2)
    wide = riff(b"VP8X", b"\x02\0\0\0" + struct.pack("<I", 16_383)[:3] * 2)
    motion = riff(b"ANIM", bytes(6))
    frame = riff(b"ANMF", bytes(16) + small)
    yield specimen("16777216x16777216.webp", webp(canvas, motion, frame), TOO_LARGE)
    yield specimen("16384x16384.webp", webp(wide, motion, frame), TOO_LARGE)
    lossless = riff(b"VP8L", b"\x2f" + struct.pack("<I", 16_382 | 16_382 << 14) + bytes(40))
    yield specimen("16383x16383-lossless.webp", webp(lossless), TOO_LARGE)
    lossy = b"\x10\x02\0\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383) + bytes(40)
    yield specimen("16383x16383-lossy.webp", webp(riff(b"VP8 ", lossy)), TOO_LARGE)
    frames = [picture(20, 20, seed=n) for n in range(100)]
    many = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    yield specimen("frames.webp", many, ANSWERED)
    yield specimen(
        "chunks.webp",
        webp(canvas[:12] + b"\x09\0\0\x09\0\0", riff(b"abcd", b"") * 200_000),
        INVALID,
    )
    yield specimen("empty.webp", webp(), INVALID)


def _tiff_bombs() -> Iterator[Specimen]:
    size = [(256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    strip = [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 9), (279, 4, 1, 81)]
    tail = bytes(100)
    yield specimen("small.tif", tiff(size + strip, tail), ANSWERED)
    yield specimen("next-is-itself.tif", tiff(size + strip, tail, 8), ANSWERED)
    yield specimen("exif-is-itself.tif", tiff([*size, *strip, (34665, 4, 1, 8)], tail), ANSWERED)
    large = [(256, 4, 1, 2**31 - 1), (257, 4, 1, 2**31 - 1), *size[2:]]
    yield specimen("2147483647x2147483647.tif", tiff(large + strip, tail), TOO_LARGE)
    lies = [(256, 4, 1, 8000), (257, 4, 1, 8000), *size[2:]]
    yield specimen("8000x8000-of-little.tif", tiff(lies + strip, tail), INVALID)
    yield specimen("no-size.tif", tiff(strip, tail), INVALID)
    # Entries that all point at the same two megabytes: 120 GB, if each were read.
    shared = [(n, 7, 2_000_000, 8) for n in range(1000, 61_000)]
    yield specimen("tags-that-share.tif", tiff(size + strip + shared, bytes(2_000_000)), ANSWERED)
    fewer = tiff(size + strip + shared[:3000], bytes(2_000_000))
    yield specimen("fewer-tags-that-share.tif", fewer, ANSWERED)
    inner = struct.pack("<H", 60_000) + b"".join(struct.pack("<HHII", *entry) for entry in shared)
    outer = [*size, *strip, (34665, 4, 1, 8 + 2 + 12 * 10 + 4)]
    yield specimen("exif-that-shares.tif", tiff(outer, inner + bytes(2_000_000)), ANSWERED)
    strips = [(256, 4, 1, 1), (257, 4, 1, 1_000_000), *size[2:], (273, 4, 1_000_000, 8)]
    strips += [(278, 4, 1, 1), (279, 4, 1_000_000, 8)]
    yield specimen("a-million-strips.tif", tiff(strips, bytes(4_000_000)), INVALID)
    # Entries that determine the pixels, and share two megabytes.
    needed = [(n, 7, 2_000_000, 8) for n in (292, 293, 317, 529, 530, 531, 532)]
    yield specimen("tables-that-share.tif", tiff(size + strip + needed, bytes(2_000_000)), INVALID)
    ratios = [*size, *strip, (282, 5, 400_000, 8)]
    yield specimen("a-resolution-of-numbers.tif", tiff(ratios, bytes(3_300_000)), ANSWERED)
    tile = [(322, 3, 1, 65_520), (323, 3, 1, 65_520), (324, 4, 1, 8), (325, 4, 1, 81)]
    packed = [(259, 3, 1, 8) if entry[0] == 259 else entry for entry in size]
    thin = [(256, 4, 1, 1), (257, 4, 1, 900_000), *packed[2:]]
    tiles = [(322, 4, 1, 50_000), (323, 4, 1, 1000), (324, 4, 900, 8), (325, 4, 900, 8)]
    yield specimen(
        "many-large-tiles.tif",
        tiff([*thin, *tiles], tail),
        TOO_LARGE,
    )
    yield specimen("a-huge-tile.tif", tiff([*packed, *tile, (277, 3, 1, 1)], tail), TOO_LARGE)
    for kind in (6, 7, 8, 5, 2, 3, 4, 32773, 34925, 34676, 50000, 50001, 9999):
        tags = [(259, 3, 1, kind) if entry[0] == 259 else entry for entry in size]
        yield specimen(f"compression-{kind}.tif", tiff(tags + strip, tail), INVALID, ANSWERED)
    # The value of the first entry: 1, uncompressed. Without it, that of the next: LZMA.
    moved = [(1000, 3, 1, 1), (256, 4, 1, 34925), *size[1:3], (259, 3, 3, 18), size[4], *strip]
    yield specimen("compression-in-the-directory.tif", tiff(moved, tail), INVALID)
    yield specimen("many-samples.tif", tiff([*size, (277, 4, 1, 2**31)], tail), INVALID)
    yield specimen("directory-behind-the-end.tif", b"II\x2a\0\xff\xff\xff\x7f" + bytes(40), INVALID)
    big = b"II\x2b\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**63) + bytes(4_000_000)
    yield specimen("endless-directory.big.tif", big, INVALID)


def _bmp_bombs() -> Iterator[Specimen]:
    def bmp(width: int, height: int, bits: int = 24, kind: int = 0, body: bytes = b"") -> bytes:
        info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, kind, len(body), 1, 1, 0, 0)
        palette = bytes(range(256)) * 4 if bits == 8 else b""
        start = 14 + len(info) + len(palette)
        head = b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start)
        return head + info + palette + body

    yield specimen("negative-height.bmp", bmp(9, -9, body=bytes(300)), ANSWERED)
    yield specimen("negative-width.bmp", bmp(-9, 9, body=bytes(300)), TOO_LARGE)
    yield specimen("2147483647x2147483647.bmp", bmp(2**31 - 1, 2**31 - 1), TOO_LARGE)
    yield specimen("lowest-height.bmp", bmp(9, -(2**31)), TOO_LARGE, INVALID)
    yield specimen("8000x8000-of-nothing.bmp", bmp(8000, 8000), INVALID)
    yield specimen("13-bits.bmp", bmp(9, 9, 13), INVALID)
    # One step of 255 lines: sixteen gigabytes.
    yield specimen("a-long-step.bmp", bmp(60_000_000, 1, 8, 1, b"\0\2\xff\xff" * 4), TOO_LARGE)
    yield specimen(
        "a-step-of-a-million.bmp", bmp(1_000_000, 9, 8, 1, b"\0\2\xff\xff" * 4), TOO_LARGE
    )
    yield specimen("runs-to-nowhere.bmp", bmp(9, 9, 8, 1, b"\xff\x01" * 3_000_000), TOO_LARGE)
    runs = b"".join(b"\x09" + bytes([n]) + b"\0\0" for n in range(9)) + b"\0\1"
    yield specimen("runs.bmp", bmp(9, 9, 8, 1, runs), ANSWERED)


def _ppm_bombs() -> Iterator[Specimen]:
    yield specimen("99999x99999.ppm", b"P6 99999 99999 255\n" + bytes(100), TOO_LARGE)
    yield specimen("9999999999x1.ppm", b"P6 9999999999 1 255\n" + bytes(100), TOO_LARGE)
    yield specimen("negative.ppm", b"P6 -9 -9 255\n" + bytes(300), INVALID)
    yield specimen("8000x8000-of-nothing.ppm", b"P6 8000 8000 255\n", INVALID)
    yield specimen("a-long-comment.ppm", b"P6 #" + b"x" * 3_000_000 + b"\n9 9 255\n", INVALID)
    yield specimen("spaces.ppm", b"P6" + b" " * 3_000_000 + b"9 9 255\n", INVALID)
    comments = b"P3 2000 2000 255\n" + b"#\n" * 1_500_000
    yield specimen("comments.ppm", comments, INVALID)
    yield specimen("text-of-8000x8000.ppm", b"P2 8000 8000 255\n" + b"0 " * 1000, TOO_LARGE)
    yield specimen("text.ppm", b"P3 2 2 255\n" + b"9 200 30 " * 4, ANSWERED)
    yield specimen("odd-brightest.ppm", b"P6 2 2 100\n" + bytes(range(12)), ANSWERED)
    yield specimen("nan.pfm", b"Pf 2 2 nan\n" + bytes(16), INVALID)
