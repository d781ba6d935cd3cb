"""The orientation equals Pillow's, and no metadata rejects a sound picture."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

import pytest
from PIL import Image, ImageOps

from tests.hostile.specimen import chunk, encoded, picture, tiff
from worker.images.decoder import Decoder

DECODER = Decoder(32, Image.Resampling.BICUBIC, max_pixels=4_000_000)
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
XMP = b'<x:xmpmeta><rdf tiff:Orientation="6"/></x:xmpmeta>'
#: Values of the orientation that is 6, by type; offsets count from the start of the EXIF data.
VALUES = {
    "byte": ((274, 1, 1, 6), b""),
    "text": ((274, 2, 2, 0x36), b""),
    "short": ((274, 3, 1, 6), b""),
    "two-shorts": ((274, 3, 2, 6 | 3 << 16), b""),
    "long": ((274, 4, 1, 6), b""),
    "fraction": ((274, 5, 1, 26), struct.pack("<II", 12, 2)),
    "no-fraction": ((274, 5, 1, 26), struct.pack("<II", 12, 0)),
    "signed-byte": ((274, 6, 1, 6), b""),
    "bytes": ((274, 7, 1, 6), b""),
    "signed-short": ((274, 8, 1, 6), b""),
    "signed-long": ((274, 9, 1, 6), b""),
    "float": ((274, 11, 1, struct.unpack("<I", struct.pack("<f", 6))[0]), b""),
    "odd-float": ((274, 11, 1, struct.unpack("<I", struct.pack("<f", 6.5))[0]), b""),
    "double": ((274, 12, 1, 26), struct.pack("<d", 6)),
    "directory": ((274, 13, 1, 6), b""),
    "none": ((274, 3, 0, 6), b""),
    "unknown-type": ((274, 99, 1, 6), b""),
    "zero": ((274, 3, 1, 0), b""),
    "one": ((274, 3, 1, 1), b""),
    "nine": ((274, 3, 1, 9), b""),
    "behind-the-end": ((274, 12, 1, 9999), b""),
    "another-tag": ((275, 3, 1, 6), b""),
}


def upright(data: bytes) -> bytes:
    """Decode what Pillow turns."""
    with warnings.catch_warnings():
        # Pillow warns of damaged metadata.
        warnings.simplefilter("ignore", UserWarning)
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    return DECODER.decode(encoded(image, "PNG"))


@pytest.mark.parametrize("xmp", [b"", XMP], ids=["no-xmp", "xmp"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", VALUES)
def test_an_orientation_of_each_type_equals_pillows(name: str, form: str, xmp: bytes) -> None:
    entry, tail = VALUES[name]
    options: dict[str, Any] = {"exif": b"Exif\0\0" + tiff([entry], tail)}
    if form == "PNG":
        data = encoded(picture(), form, **options)
        text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        data = data[:33] + (text if xmp else b"") + data[33:]
    else:
        lossless = {"lossless": True} if form == "WEBP" else {}
        data = encoded(picture(), form, xmp=xmp, **options, **lossless)
    assert DECODER.decode(data) == upright(data)


@pytest.mark.parametrize("xmp", [b"", XMP], ids=["no-xmp", "xmp"])
@pytest.mark.parametrize("orientation", [None, 1, 6, 8])
def test_the_orientation_of_a_tiff_equals_pillows(orientation: int | None, xmp: bytes) -> None:
    info: dict[int, Any] = {} if orientation is None else {274: orientation}
    if xmp:
        info[700] = xmp
    for compression in ("raw", "tiff_lzw"):
        data = encoded(picture(), "TIFF", compression=compression, tiffinfo=info)
        assert DECODER.decode(data) == upright(data)


def test_the_profile_of_imagemagick_turns_a_picture_unless_it_is_damaged() -> None:
    exif = b"Exif\0\0" + tiff([(274, 3, 1, 6)])
    profile = b"\nexif\n%8d\n" % len(exif) + exif.hex().encode()
    data = encoded(picture(), "PNG")
    for kind, name, text in (
        (b"tEXt", b"Raw profile type exif\0", profile),
        (b"zTXt", b"Raw profile type exif\0\0", zlib.compress(profile)),
        (b"iTXt", b"Raw profile type exif\0\1\0\0\0", zlib.compress(profile)),
    ):
        turned = data[:33] + chunk(kind, name + text) + data[33:]
        assert DECODER.decode(turned) == upright(turned)
    damaged = data[:33] + chunk(b"tEXt", b"Raw profile type exif\0" + profile + b"g") + data[33:]
    assert DECODER.decode(damaged) == DECODER.decode(data)


def png_with(*chunks: bytes) -> bytes:
    data = encoded(picture(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def animation(form: str, frames: int) -> bytes:
    """Return an animation, its second frame again and again."""
    others = [Image.new("RGB", (8, 8), "red")]
    two = encoded(picture(8, 8), form, save_all=True, append_images=others, lossless=True)
    if form == "WEBP":
        second = two.rindex(b"ANMF")
        body = two[8:] + two[second:] * (frames - 2)
        return b"RIFF" + struct.pack("<I", len(body)) + body
    second, end = two.rindex(b"fcTL") - 4, two.rindex(b"IEND") - 4
    return two[:end] + two[second:end] * (frames - 2) + two[end:]


def test_no_metadata_rejects_a_png() -> None:
    expected = DECODER.decode(encoded(picture(), "PNG"))
    bad_checksum = chunk(b"pHYs", bytes(9))[:-1] + b"!"
    for chunks in (
        [chunk(b"tEXt", b"key\0%d" % n) for n in range(3000)],
        [chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2 << 20)))] * 9,
        [chunk(b"iCCP", b"profile\0\0broken")],
        [chunk(kind, b"\1") for kind in (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"eXIf")],
        [bad_checksum],
        [chunk(b"acTL", b"\0"), chunk(b"fcTL", b"\0")],
    ):
        assert DECODER.decode(png_with(*chunks)) == expected


@pytest.mark.parametrize(("form", "frames"), [("PNG", 1200), ("WEBP", 9000)])
def test_no_number_of_frames_rejects_an_animation(form: str, frames: int) -> None:
    still = encoded(picture(8, 8), form, lossless=True)
    assert DECODER.decode(animation(form, frames)) == DECODER.decode(still)


def test_no_metadata_rejects_a_tiff() -> None:
    data = encoded(picture(), "TIFF", compression="tiff_lzw")
    for tag, kind, count, value in (
        (270, 2, 900, 2**31),  # a description behind the end
        (282, 2, 3, 0x202020),  # a resolution that is a text
        (34665, 4, 1, 7),  # EXIF data in garbage
        (34665, 4, 1, 2**32 - 1),
        (34853, 2, 4, 9),
        (34675, 7, 2**31, 8),
        (700, 12, 1, 8),
    ):
        assert DECODER.decode(with_entry(data, tag, kind, count, value)) == DECODER.decode(data)


def with_entry(data: bytes, tag: int, kind: int, count: int, value: int) -> bytes:
    """Return a TIFF from Pillow with a further entry; its directory moves to the end."""
    (start,) = struct.unpack_from("<I", data, 4)
    (number,) = struct.unpack_from("<H", data, start)
    rows = [data[start + 2 + n * 12 :][:12] for n in range(number)]
    rows = [row for row in rows if struct.unpack_from("<H", row)[0] != tag]
    rows.append(struct.pack("<HHII", tag, kind, count, value))
    rows.sort(key=lambda row: struct.unpack_from("<H", row))
    directory = struct.pack("<H", len(rows)) + b"".join(rows) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


def test_no_comment_rejects_a_gif() -> None:
    data = encoded(picture().quantize(16), "GIF")
    start = data.index(b",", 13 + 48)
    comment = b"!\xfe" + (b"\xff" + b"x" * 255) * 9000 + b"\0"
    assert DECODER.decode(data[:start] + comment + data[start:]) == DECODER.decode(data)
