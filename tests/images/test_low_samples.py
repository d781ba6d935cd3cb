"""16-bit colours of low values keep their brightness, and the transparent colour has 16 bits."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.hostile.specimen import chunk
from tests.images.sample_files import png_of, tiff_of
from worker.images.decoder import Decoder

DECODER = Decoder(32, Image.Resampling.NEAREST, max_pixels=4_000_000)
WIDTH, HEIGHT = 40, 30
FORMS = ["png", "raw II", "raw MM", "deflate II", "deflate MM"]


def samples_of(bands: int, opacity: int) -> NDArray[np.uint8]:
    """Return 8-bit samples with a constant opacity in the last of 2 or 4 bands."""
    samples = np.random.default_rng(bands).integers(0, 250, (HEIGHT, WIDTH, bands), np.uint8)
    if bands != 3:
        samples[..., -1] = opacity
    return samples


def file_of(form: str, samples: NDArray[Any]) -> bytes:
    return png_of(samples) if form == "png" else tiff_of(samples, *form.split())


@pytest.mark.parametrize(
    ("form", "bands", "opacity"),
    [
        *itertools.product(FORMS, [3], [0]),
        *itertools.product(FORMS, [4], [0, 100, 255]),
        *itertools.product(["png"], [2], [0, 100, 255]),
    ],
)
def test_colours_below_256_keep_their_values(form: str, bands: int, opacity: int) -> None:
    samples = samples_of(bands, opacity)
    expected = DECODER.decode(png_of(samples))
    assert DECODER.decode(file_of(form, samples.astype("u2"))) == expected
    if bands != 3:
        scaled = samples.astype("u2")
        scaled[..., -1] *= 257
        assert DECODER.decode(file_of(form, scaled)) == expected or opacity == 0


@pytest.mark.parametrize(("form", "bands"), [*itertools.product(FORMS, [3, 4]), ("png", 2)])
def test_brighter_colours_are_scaled(form: str, bands: int) -> None:
    samples = samples_of(bands, 100)
    assert DECODER.decode(file_of(form, samples.astype("u2") * 257)) == DECODER.decode(
        png_of(samples)
    )


@pytest.mark.parametrize("top", [0x12, 0x00])
def test_the_transparent_colour_has_16_bits(top: int) -> None:
    samples = np.full((4, 4, 3), (top << 8) + 0x34, "u2")
    samples[2:, :, 1] += 1  # the same colour in the high bytes
    keyed = png_of(samples, chunk(b"tRNS", struct.pack(">3H", *samples[0, 0])))
    shown = np.frombuffer(DECODER.decode(keyed), np.uint8).reshape(32, 32, 3)
    assert (shown[:16] == 255).all()
    assert (shown[16:] == ([top] * 3 if top else [0x34, 0x35, 0x34])).all()
