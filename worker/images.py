"""Encoded bytes to the pixels a model takes: what its processor would do, bit for bit."""

from __future__ import annotations

import io
import os
import threading
from dataclasses import dataclass
from typing import Any, Final

# The plugins are named since Pillow loads by itself only those of the commonest formats.
from PIL import (  # noqa: F401
    Image,
    ImageOps,
    MpoImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from producer.contract import ErrorCode
from worker.refused import Refused

#: Formats that are decoded; Pillow knows many more, each a door of its own.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

# Sizes are checked here, against a bound of our own; Pillow's would only add a warning.
Image.MAX_IMAGE_PIXELS = None

#: Images being decoded at once: more than the cores would only hold more memory.
_decoding = threading.BoundedSemaphore(os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes for one model. `size` is the side of its square input, in pixels.

    With `draft`, a JPEG is decoded at no less than so many times that size, by the scaling that is
    part of its decoding: faster, and not what the processor computes (benchmarks/jpeg_draft.py).
    """

    size: int
    resample: int
    max_pixels: int
    draft: int = 0

    def decode(self, encoded: bytes) -> bytes:
        """RGB as uint8, rows of pixels, size * size * 3 bytes; raises Refused.

        Of an animation the first frame; EXIF rotation applied; transparency on white.
        """
        if not encoded:
            raise Refused(ErrorCode.IMAGE_INVALID, "the image is empty (0 bytes)")
        with _decoding:
            try:
                return self._decode(encoded)
            except Refused:
                raise
            except UnidentifiedImageError:
                raise Refused(
                    ErrorCode.IMAGE_INVALID,
                    f"not an image of a known format: use one of {', '.join(FORMATS)}",
                ) from None
            except MemoryError:
                raise Refused(
                    ErrorCode.IMAGE_TOO_LARGE, "the image does not fit into memory"
                ) from None
            except Exception as error:
                # Pillow's decoders raise whatever a broken file drives them to.
                raise Refused(
                    ErrorCode.IMAGE_INVALID, f"the image cannot be decoded: {error}"
                ) from None

    def _decode(self, encoded: bytes) -> bytes:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            self._check_size(image)
            if self.draft:
                image.draft(None, (self.draft * self.size,) * 2)
            ImageOps.exif_transpose(image, in_place=True)
            square = (self.size, self.size)
            return _to_rgb(image).resize(square, Image.Resampling(self.resample)).tobytes()

    def _check_size(self, image: Image.Image) -> None:
        """The header alone tells: a bomb is never unpacked."""
        width, height = image.size
        if width * height > self.max_pixels:
            raise Refused(
                ErrorCode.IMAGE_TOO_LARGE,
                f"the image has {width} x {height} pixels; at most {self.max_pixels:,} are decoded",
            )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        # 16 bits and more for each pixel: Pillow's own conversion would clip, not scale.
        image = _to_8_bits(image)
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    wide = image.convert("F")
    # 16 bits are the usual depth; only a file that exceeds them is scaled by its content.
    brightest: Any = wide.getextrema()[1]
    scale = 255 / max(65535.0, brightest)
    return wide.point(lambda value: value * scale).convert("L")
