"""Settings of image processors, and images, for a vision model of 32 x 32 pixels."""

from __future__ import annotations

import io
from random import Random
from typing import Any

from PIL import Image

from worker.images.decoder import Decoder

CROP = {"do_center_crop": True}
#: Settings of processors, for a vision model of 32 x 32 pixels in patches of 8.
PROCESSORS: dict[str, dict[str, Any]] = {
    "larger": {"size": {"height": 48, "width": 48}},
    "smaller": {"size": {"height": 24, "width": 24}},
    "wide": {"size": {"height": 24, "width": 56}},
    "tall, as many patches": {"size": {"height": 64, "width": 16}},
    "no multiple of a patch": {"size": {"height": 45, "width": 39}},
    "centre of the shorter side": {**CROP, "size": {"shortest_edge": 37}, "crop_size": 32},
    "centre of a square": {
        **CROP,
        "size": {"height": 40, "width": 50},
        "crop_size": {"height": 31, "width": 48},
    },
    "centre of the original": {**CROP, "do_resize": False, "crop_size": 32},
    "a frame around the image": {
        **CROP,
        "size": {"shortest_edge": 20},
        "crop_size": {"height": 32, "width": 35},
    },
    "padded": {
        "size": {"height": 29, "width": 26},
        "do_pad": True,
        "pad_size": {"height": 32, "width": 40},
    },
}
#: Sizes of images: wide, tall, and smaller than any frame.
SIZES = [(97, 41), (45, 80), (15, 19)]


def noise(width: int, height: int) -> Image.Image:
    data = Random(width).randbytes(width * height * 3)
    return Image.frombytes("RGB", (width, height), data)


def decode(model: Any, image: Image.Image) -> bytes:
    """Return the pixels that a consumer sends."""
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    decoder = Decoder(
        model.image_size, model.resample, 10**6, frame=model.frame, backend=model.image_backend
    )
    return decoder.decode(encoded.getvalue())
