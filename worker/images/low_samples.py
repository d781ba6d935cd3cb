"""16-bit colour images of low values, and the transparent colour of a 16-bit PNG.

Pillow keeps the high byte of each sample: an image whose samples are all below 256 is black, and
colours with the same high bytes are all transparent. A second decoding reads the low bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce
from typing import Any, Final

from PIL import Image, ImageChops, ImageFile

#: Bytes a pixel of the second decoding and of the bands.
LOW_BYTES: Final = 16
#: Raw modes by their last part, and those that read the other byte of each sample.
_OTHER_BYTES: Final = {
    ";16B": ";16L",
    ";16L": ";16B",
    # Native order, of libtiff.
    ";16N": ";16B" if sys.byteorder == "little" else ";16L",
}
#: Grey with transparency, whose four bytes a pixel can be read as bands.
_GREY_ALPHA: Final = "LA;16B"
_BANDS: Final = "RGBA"
#: Modes whose bands are samples. Those of premultiplied colours (RGBa) are not.
_MODES: Final = ("RGB", "RGBA", "CMYK")


def has_16_bit_colours(image: ImageFile.ImageFile) -> bool:
    """Return whether an image that is not decoded yet has 16-bit samples of several bands."""
    return image.mode in _MODES and any(_low_raw_mode(tile) for tile in image.tile)


def restore_low_samples(
    image: ImageFile.ImageFile, reopen: Callable[[], ImageFile.ImageFile]
) -> Image.Image:
    """Return a decoded image with 16-bit colours as 8-bit samples.

    If all colours are below 256, they keep their values, as in `worker.images.depth`. The
    transparent colour is compared at 16 bits.
    """
    key = image.info.get("transparency")
    high = image.split()
    colours = len(high) if image.mode == "CMYK" else 3
    is_low = not any(band.getextrema()[1] for band in high[:colours])
    if not is_low and key is None:
        return image
    low = _low_bands(reopen())
    bands = list(low[:colours] if is_low else high[:colours])
    if key is not None:
        bands.append(_opacity(high, low, key))
    elif len(high) > colours:
        # Opacities below 256, as those of the colours, are of 8 bits.
        bands.append(high[3] if high[3].getextrema()[1] else low[3])
    mode = "RGBA" if len(bands) > colours else image.mode
    restored = Image.merge(mode, bands)
    restored.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return restored


def _low_bands(image: ImageFile.ImageFile) -> tuple[Image.Image, ...]:
    is_grey = _raw_mode(image.tile[0]) == _GREY_ALPHA
    image.tile = [_with_raw_mode(tile, _low_raw_mode(tile)) for tile in image.tile]
    with image:
        image.load()
        bands = image.split()
    if is_grey:
        _, grey, _, opacity = bands
        return (grey, grey, grey, opacity)
    return bands


def _opacity(
    high: tuple[Image.Image, ...], low: tuple[Image.Image, ...], key: tuple[int, ...]
) -> Image.Image:
    """Return an opacity of 0 where all 16 bits of the colours are those of the key."""
    differences = [
        band.point([0 if value == byte else 255 for value in range(256)])
        for high_band, low_band, sample in zip(high, low, key, strict=True)
        for band, byte in ((high_band, sample >> 8), (low_band, sample & 0xFF))
    ]
    return reduce(ImageChops.lighter, differences)


def _raw_mode(tile: Any) -> str:
    raw_mode = tile.args[0] if isinstance(tile.args, tuple) else tile.args
    return raw_mode if isinstance(raw_mode, str) else ""


def _low_raw_mode(tile: Any) -> str:
    """Return the raw mode of the other byte of each 16-bit sample; empty for other samples."""
    raw_mode = _raw_mode(tile)
    if raw_mode == _GREY_ALPHA:
        return _BANDS
    suffix = _OTHER_BYTES.get(raw_mode[-4:])
    return raw_mode[:-4] + suffix if suffix and "a" not in raw_mode else ""


def _with_raw_mode(tile: Any, raw_mode: str) -> Any:
    others = tile.args[1:] if isinstance(tile.args, tuple) else ()
    return tile._replace(args=(raw_mode, *others))
