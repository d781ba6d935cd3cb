"""Samples of more than 8 bits become 8 bits by the range of the content."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from producer.ledger import blobs
from tests.hostile.specimen import chunk, encoded, ihdr
from worker.images.decoder import Decoder

DECODER = Decoder(32, Image.Resampling.NEAREST, max_pixels=4_000_000)
#: A ramp of 8 bits, without its brightest part.
RAMP = np.arange(0, 201, dtype=np.uint8)[:, None].repeat(3, 1)


def pixels(data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(DECODER.decode(data), np.uint8).reshape(32, 32, 3)


def as_8_bits(samples: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return pixels(encoded(Image.fromarray(samples), "PNG"))


FILES = [
    ("I;16", "PNG", "<u2"),
    ("I;16", "TIFF", "<u2"),
    ("I", "TIFF", "<i4"),
    ("F", "TIFF", "<f4"),
    ("F", "PPM", "<f4"),
]


@pytest.mark.parametrize(("mode", "form", "kind"), FILES)
def test_values_up_to_255_keep_their_brightness(mode: str, form: str, kind: str) -> None:
    image = Image.frombytes(mode, RAMP.shape[::-1], RAMP.astype(kind).tobytes())
    assert (pixels(encoded(image, form)) == as_8_bits(RAMP)).all()


@pytest.mark.parametrize(("mode", "form", "kind"), FILES)
def test_values_up_to_65535_are_scaled(mode: str, form: str, kind: str) -> None:
    samples = (RAMP.astype(np.int64) * 257).astype(kind)
    image = Image.frombytes(mode, RAMP.shape[::-1], samples.tobytes())
    assert (pixels(encoded(image, form)) == as_8_bits(RAMP)).all()


def test_the_brightest_of_larger_values_is_white() -> None:
    samples = RAMP.astype("<i4") * 10_000_000
    image = Image.frombytes("I", RAMP.shape[::-1], samples.tobytes())
    expected = np.rint(RAMP * (255 / 200)).astype(np.uint8)
    assert (pixels(encoded(image, "TIFF")) == as_8_bits(expected)).all()


def test_floating_point_from_0_to_1_is_scaled() -> None:
    image = Image.fromarray(RAMP.astype("<f4") / 255)
    assert (pixels(encoded(image, "TIFF")) == as_8_bits(RAMP)).all()


def test_samples_that_are_no_finite_numbers_do_not_set_the_range() -> None:
    samples = RAMP.astype("<f4")
    samples[0], samples[9], samples[17] = np.nan, np.inf, -np.inf
    # A signalling NaN, which NumPy's conversions warn of.
    samples[0, 0] = np.uint32(0x7F800001).view(np.float32)
    shown = RAMP.copy()
    shown[0], shown[9], shown[17] = 0, 255, 0
    assert (pixels(encoded(Image.fromarray(samples), "TIFF")) == as_8_bits(shown)).all()


@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "<i4", "<f4"])
def test_an_array_given_to_the_client_keeps_its_brightness(kind: str) -> None:
    data = blobs.read(Image.fromarray(RAMP.astype(kind)))
    assert isinstance(data, bytes)
    assert (pixels(data) == as_8_bits(RAMP)).all()


@pytest.mark.parametrize("kind", ["<i4", "<f4"])
def test_large_values_given_to_the_client_arrive(kind: str) -> None:
    samples = RAMP.astype(kind) * 1_000_000
    data = blobs.read(Image.fromarray(samples))
    assert isinstance(data, bytes)
    expected = np.rint(RAMP * (255 / 200)).astype(np.uint8)
    assert (pixels(data) == as_8_bits(expected)).all()


def test_the_transparent_grey_of_16_bits_is_one_value() -> None:
    samples = np.full((4, 4), 0x1234, ">u2")
    samples[2:] = 0x1235  # the same grey in 8 bits
    image = Image.frombytes("I;16", (4, 4), samples.astype("<u2").tobytes())
    data = encoded(image, "PNG")
    assert data[:33].endswith(ihdr(4, 4, 16, 0)[-4:])
    keyed = data[:33] + chunk(b"tRNS", struct.pack(">H", 0x1234)) + data[33:]
    shown = pixels(keyed)
    assert (shown[:16] == 255).all()
    assert (shown[16:] == 0x12).all()
