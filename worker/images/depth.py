"""Images of more than 8 bits a sample: their conversion to 8 bits.

Pillow's own conversion clips instead of scaling. A file does not tell the range of its samples: a
16-bit image may contain values of 8 bits, a floating-point image values from 0 to 1. Therefore the
brightest sample determines the range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: The ranges of usual content, by their largest values. Brighter content is its own range.
RANGES: Final[tuple[float, ...]] = (255.0, 65535.0)
#: The range of floating-point content, if no sample is brighter.
UNIT_RANGE: Final = 1.0


def to_8_bits(strips: Iterable[Image.Image]) -> Callable[[Image.Image], Image.Image]:
    """Return the conversion of an image's strips to RGB.

    Samples from 0 to the top of the range become 0 to 255, rounded; others are clipped. The range
    is the smallest that contains all finite samples: 1 (floating point alone), 255, 65535, or the
    brightest sample. A transparent sample value becomes white.
    """
    brightest = 0.0
    ranges = RANGES
    for strip in strips:
        samples = np.asarray(strip)
        if samples.dtype.kind == "f":
            ranges = (UNIT_RANGE, *RANGES)
            samples = samples[np.isfinite(samples)]
        brightest = max(brightest, float(samples.max(initial=0)))
    top = next((top for top in ranges if brightest <= top), brightest)

    def convert(strip: Image.Image) -> Image.Image:
        samples = np.asarray(strip)
        grey = _scale(samples, top)
        key = strip.info.get("transparency")
        if isinstance(key, int):
            # The key has the depth of the samples: only one of the values that become the same
            # grey is transparent.
            grey[samples == key] = 255
        return Image.fromarray(grey).convert("RGB")

    return convert


def _scale(samples: NDArray[Any], top: float) -> NDArray[np.uint8]:
    with np.errstate(invalid="ignore"):
        # The conversion of a signalling NaN would warn.
        scaled = samples.astype(np.float64) * (255 / top)
    # Not a number becomes black.
    scaled = np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
