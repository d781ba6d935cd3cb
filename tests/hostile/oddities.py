"""Rare but legal files: each is answered."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from PIL import Image

from tests.hostile.specimen import ANSWERED, Specimen, encoded, picture, specimen, tiff


def oddities() -> Iterator[Specimen]:
    """Yield the rare files."""
    for name, data in {**_shapes(), **_modes(), **_tiffs(), **_notes()}.items():
        yield specimen(name, data, ANSWERED)


def _shapes() -> dict[str, bytes]:
    large = Image.new("L", (8000, 8000), 90)
    return {
        "1x1.png": encoded(picture(1, 1), "PNG"),
        "1x1.jpg": encoded(picture(1, 1), "JPEG"),
        "1x1.gif": encoded(picture(1, 1).quantize(2), "GIF"),
        "1x1.webp": encoded(picture(1, 1), "WEBP"),
        "20000x1.png": encoded(Image.new("RGB", (20_000, 1), "red"), "PNG"),
        "1x20000.png": encoded(Image.new("RGB", (1, 20_000), "red"), "PNG"),
        "1x65000.jpg": encoded(Image.new("RGB", (1, 65_000), "red"), "JPEG"),
        "1000000x1.png": encoded(Image.new("1", (1_000_000, 1)), "PNG"),
        "8000x8000.png": encoded(large, "PNG"),
        "8000x8000.jpg": encoded(large, "JPEG", progressive=True),
    }


def _modes() -> dict[str, bytes]:
    image = picture()
    frames = [picture(seed=n) for n in range(3)]
    more = {"save_all": True, "append_images": frames}
    sixteen = Image.frombytes("I;16", (40, 30), bytes(range(240)) * 10)
    clear = picture(mode="RGBA")
    return {
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "grey.jpg": encoded(image.convert("L"), "JPEG"),
        "progressive.jpg": encoded(image, "JPEG", progressive=True),
        "subsampled.jpg": encoded(image, "JPEG", subsampling=2, quality=1),
        "16-bit.png": encoded(sixteen, "PNG"),
        "palette-with-transparency.png": encoded(image.quantize(16), "PNG", transparency=0),
        "palette-with-alphas.png": encoded(image.quantize(8), "PNG", transparency=bytes(range(8))),
        "grey-with-colour-key.png": encoded(image.convert("L"), "PNG", transparency=9),
        "colour-key.png": encoded(image, "PNG", transparency=(1, 2, 3)),
        "grey-alpha.png": encoded(clear.convert("LA"), "PNG"),
        "rgba.png": encoded(clear, "PNG"),
        "1-bit.png": encoded(image.convert("1"), "PNG"),
        "animated.png": encoded(image, "PNG", **more),
        "animated.gif": encoded(image, "GIF", **more),
        "animated.webp": encoded(image, "WEBP", **more),
        "interlaced.gif": encoded(image.quantize(9), "GIF", interlace=1),
        "transparent.gif": encoded(image.quantize(9), "GIF", transparency=1),
        "lossless.webp": encoded(clear, "WEBP", lossless=True),
        "1-bit.bmp": encoded(image.convert("1"), "BMP"),
        "palette.bmp": encoded(image.quantize(9), "BMP"),
        "1-bit.pbm": encoded(image.convert("1"), "PPM"),
        "16-bit.pgm": encoded(sixteen.convert("I"), "PPM"),
    }


def _tiffs() -> dict[str, bytes]:
    image = picture()
    values = [0.0, 1.0, float("nan"), float("inf"), float("-inf"), 1e38, -5.0, 70_000.0] * 8
    wild = Image.frombytes("F", (8, 8), struct.pack("<64f", *values))
    files = {
        f"{name}.tif": encoded(image, "TIFF", compression=name)
        for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
    }
    return files | {
        "group4.tif": encoded(image.convert("1"), "TIFF", compression="group4"),
        "float.tif": encoded(image.convert("L").convert("F"), "TIFF"),
        "wild-floats.tif": encoded(wild, "TIFF"),
        "32-bit.tif": encoded(image.convert("L").convert("I"), "TIFF"),
        "cmyk.tif": encoded(image.convert("CMYK"), "TIFF"),
        "lab.tif": encoded(image.convert("LAB"), "TIFF"),
        "rgba.tif": encoded(picture(mode="RGBA"), "TIFF"),
        "palette.tif": encoded(image.quantize(9), "TIFF"),
        "many-pages.tif": encoded(image, "TIFF", save_all=True, append_images=[image] * 30),
        "big.tif": encoded(image, "TIFF", big_tiff=True),
    }


def _notes() -> dict[str, bytes]:
    image = picture()
    turned = {}
    for value in (1, 3, 6, 8, 9, 65535):
        exif = Image.Exif()
        exif[0x0112] = value
        turned[f"turned-{value}.jpg"] = encoded(image, "JPEG", exif=exif)
    # A text in a field for a number.
    wrong = b"Exif\0\0" + tiff([(274, 3, 1, 6), (282, 2, 13, 38)], b"not a number\0")
    xmp = b'<x:xmpmeta><rdf tiff:Orientation="6"/></x:xmpmeta>'
    return turned | {
        "turned.png": encoded(image, "PNG", exif=exif),
        "turned-by-xmp.jpg": encoded(image, "JPEG", xmp=xmp),
        "odd-exif.webp": encoded(image, "WEBP", exif=wrong),
        "profile.jpg": encoded(image, "JPEG", icc_profile=bytes(200_000)),
        "profile.png": encoded(image, "PNG", icc_profile=bytes(2000)),
    }
