"""JPEGs of the demo's world, used instead of photographs."""

from __future__ import annotations

import io
from random import Random

from demo.scenes import draw, is_clear, random_scene

WIDTH, HEIGHT = 640, 480


def pictures(count: int, seed: int) -> list[bytes]:
    """Draw and encode scenes of the demo's world."""
    rng = Random(seed)
    encoded: list[bytes] = []
    while len(encoded) < count:
        scene = random_scene(rng)
        if is_clear(scene, WIDTH, HEIGHT):
            file = io.BytesIO()
            draw(scene, WIDTH, HEIGHT).save(file, "JPEG", quality=88)
            encoded.append(file.getvalue())
    return encoded
