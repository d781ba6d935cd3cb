"""The hues that different people pick for a color's name."""

from __future__ import annotations

from random import Random

RGB = tuple[int, int, int]


def _hues(codes: str) -> tuple[RGB, ...]:
    """Read hexadecimal codes, as style sheets write them."""
    return tuple((c[0], c[1], c[2]) for c in map(bytes.fromhex, codes.split()))


# The first hue of each name is the plainest one. The others are what CSS, Material
# Design, "flat" palettes and matplotlib call by that name, so that a picture drawn
# by somebody else is still inside the world.
SHAPE_COLORS: dict[str, tuple[RGB, ...]] = {
    "red": _hues("ff0000 dc1428 e74c3c c0282b d62728 c81414"),
    "green": _hues("008000 00ff00 2ea043 2ecc71 27ae60 4caf50"),
    "blue": _hues("0000ff 1e90ff 3498db 1f77b4 4169e1 0000a0"),
    "yellow": _hues("ffff00 f1c40f ffeb3b ffd700 facc15"),
    "purple": _hues("800080 9b59b6 8e44ad 9c27b0 9333ea"),
    "orange": _hues("ffa500 e67e22 f39c12 ff7f0e ff8c00"),
    "white": _hues("ffffff f5f5f5 ecf0f1"),
    "black": _hues("000000 141414 232323"),
}

BACKGROUND_COLORS: dict[str, tuple[RGB, ...]] = {
    "grey": _hues("808080 a0a0a0 c0c0c0 95a5a6 696969"),
    "pink": _hues("ffc0cb ff69b4 ffb6c1 f48fb1 e377c2"),
    "brown": _hues("8b4513 a52a2a 795548 a0522d 654321 96643c"),
}

#: How far a channel may lie from the hue it varies (levels of 255); more would let
#: a yellow be taken for an orange.
JITTER = 10

#: Least distance in RGB between a shape and its background: below it, crimson on
#: CSS brown or white on silver is hard to see for people too.
LEAST_CONTRAST = 75.0


def shade(rng: Random, hues: tuple[RGB, ...]) -> RGB:
    """Pick a hue, and vary it slightly."""
    red, green, blue = (
        min(255, max(0, level + rng.randint(-JITTER, JITTER))) for level in rng.choice(hues)
    )
    return red, green, blue


def contrast(first: RGB, second: RGB) -> float:
    """Return the Euclidean distance in RGB."""
    return float(sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) ** 0.5)


def visible_shade(rng: Random, hues: tuple[RGB, ...], background: RGB) -> RGB:
    """Pick a shade that stands out from the background."""
    shades = [shade(rng, hues) for _ in range(12)]
    for candidate in shades:
        if contrast(candidate, background) >= LEAST_CONTRAST:
            return candidate
    return max(shades, key=lambda candidate: contrast(candidate, background))
