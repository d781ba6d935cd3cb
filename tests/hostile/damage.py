"""Damaged files: truncated, with flipped bits, with holes, with the head of another file."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final

from PIL import Image

from tests.hostile.specimen import (
    ANSWERED,
    ANY,
    INVALID,
    Specimen,
    encoded,
    heic,
    picture,
    specimen,
)

CUTS: Final = (0.02, 0.1, 0.3, 0.5, 0.7, 0.85)
FLIPS: Final = 8
HOLES: Final = 4


def sound() -> dict[str, bytes]:
    """Return valid files by format."""
    image = picture()
    exif = Image.Exif()
    exif[0x0112] = 6
    second = [picture(seed=8)]
    return {
        "jpeg": encoded(image, "JPEG", quality=90, exif=exif),
        "jpeg-progressive": encoded(image, "JPEG", quality=90, progressive=True),
        "png": encoded(image, "PNG"),
        "webp": encoded(image, "WEBP", quality=90),
        "webp-lossless": encoded(image, "WEBP", lossless=True),
        "gif": encoded(image.quantize(64), "GIF"),
        "bmp": encoded(image, "BMP"),
        "tiff": encoded(image, "TIFF"),
        "tiff-lzw": encoded(image, "TIFF", compression="tiff_lzw"),
        "ppm": encoded(image, "PPM"),
        "mpo": encoded(image, "MPO", save_all=True, append_images=second),
        "apng": encoded(image, "PNG", save_all=True, append_images=second),
        "jpeg2000": encoded(image, "JPEG2000"),
        "avif": encoded(image, "AVIF", exif=exif),
        "heic": heic(image, exif=exif.tobytes()),
    }


def damaged() -> Iterator[Specimen]:
    """Yield the damaged files, the same in each run."""
    files = sound()
    for form, data in files.items():
        yield specimen(f"sound.{form}", data, ANSWERED)
        yield from _cut(form, data)
        yield from _flipped(form, data)
        yield from _holed(form, data)
    names = list(files)
    for head_name, body_name in zip(names, names[1:] + names[:1], strict=True):
        head, body = files[head_name][:24], files[body_name][24:]
        yield Specimen(f"head-of-{head_name}-body-of-{body_name}", head + body, ANY)


def _cut(form: str, data: bytes) -> Iterator[Specimen]:
    for part in CUTS:
        # A file of several images may be valid without its end.
        outcomes = (INVALID, ANSWERED) if form in ("mpo", "apng") else (INVALID,)
        yield specimen(f"cut-at-{part:.0%}.{form}", data[: int(len(data) * part)], *outcomes)


def _flipped(form: str, data: bytes) -> Iterator[Specimen]:
    for seed in range(FLIPS):
        rng = Random(f"{form} {seed}")
        changed = bytearray(data)
        # One bit of the head, which holds the claims, and some anywhere.
        positions = [rng.randrange(min(64, len(data))), *rng.choices(range(len(data)), k=seed * 2)]
        for position in positions:
            changed[position] ^= 1 << rng.randrange(8)
        yield Specimen(f"flipped-{seed}.{form}", bytes(changed), ANY)


def _holed(form: str, data: bytes) -> Iterator[Specimen]:
    for seed in range(HOLES):
        rng = Random(f"{form} hole {seed}")
        length = max(1, len(data) // (4 << seed))
        start = rng.randrange(len(data) - length)
        holed = data[:start] + bytes(length) + data[start + length :]
        yield Specimen(f"hole-{seed}.{form}", holed, ANY)
