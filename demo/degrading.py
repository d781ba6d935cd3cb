"""Degraded pictures: sensor noise and JPEG, as pictures have them when they arrive."""

from __future__ import annotations

import io
from random import Random

import numpy as np
from PIL import Image


def degrade(image: Image.Image, rng: Random) -> Image.Image:
    """Add noise to two pictures in five; make every second one a JPEG of quality 60 to 95."""
    if rng.random() < 0.4:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(
            0, rng.uniform(1, 8), (image.height, image.width, 3)
        )
        image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=rng.randint(60, 95), subsampling=rng.choice((0, 2)))
        image = Image.open(file).convert("RGB")
    return image
