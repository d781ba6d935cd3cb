"""Binary PPMs and PGMs of any maximum value equal Pillow's."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from worker.errors import ItemRejected
from worker.images.decoder import Decoder
from worker.images.ppm import ScaledPpm

DECODER = Decoder(32, Image.Resampling.BICUBIC, max_pixels=4_000_000)


@pytest.mark.parametrize("maximum", [1, 35, 127, 254, 255, 256, 1023, 65534, 65535])
@pytest.mark.parametrize("kind", ["P5", "P6"])
def test_samples_that_look_like_comments_are_samples(kind: str, maximum: int) -> None:
    size = (60, 40)
    form = "u1" if maximum < 256 else ">u2"
    count = size[0] * size[1] * (3 if kind == "P6" else 1)
    samples = np.random.default_rng(3).integers(0, maximum + 1, count).astype(form)
    # More `#` than a text may have comments.
    samples[: count // 2] = min(maximum, 0x23 if maximum < 256 else 0x2323)
    data = f"{kind} {size[0]} {size[1]} {maximum}\n".encode() + samples.tobytes()
    expected = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(np.asarray(ScaledPpm(io.BytesIO(data))), expected)
    assert len(DECODER.decode(data)) == 32 * 32 * 3


@pytest.mark.parametrize(
    ("maximum", "sample"), [(65535, 35), (65535, 255), (65535, 256), (256, 1), (1023, 3), (1023, 4)]
)
def test_low_colours_are_as_bright_as_low_greys(maximum: int, sample: int) -> None:
    pixels = np.full((16, 16, 3), sample, ">u2")
    header = f" 16 16 {maximum}\n".encode()
    grey = DECODER.decode(b"P5" + header + pixels[..., 0].tobytes())
    assert DECODER.decode(b"P6" + header + pixels.tobytes()) == grey
    assert any(grey)


def test_a_large_binary_ppm_is_decoded() -> None:
    data = b"P6 2000 1500 1023\n" + bytes(2000 * 1500 * 6)
    assert not any(DECODER.decode(data))


def test_a_text_with_many_comments_names_them() -> None:
    data = b"P3 1 1 255\n" + b"#\n" * 2000 + b"1 2 3\n"
    with pytest.raises(ItemRejected, match="has at most 1000 comments; save it as a PNG"):
        DECODER.decode(data)
