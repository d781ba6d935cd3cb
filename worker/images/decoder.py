"""The image decoder: encoded bytes to a model's input pixels, identical to its processor's."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Final

from PIL import Image
from PIL.ImageFile import ImageFile

from producer.contract import ErrorCode
from worker.engine.frame import Frame, ImageBackend
from worker.errors import ItemRejected
from worker.images.completeness import load_completely
from worker.images.inspection import Header, format_name, inspect_image
from worker.images.limits import check_size
from worker.images.low_samples import LOW_BYTES, has_16_bit_colours, restore_low_samples
from worker.images.memory_budget import BUDGET_BYTES, CORES, MemoryBudget
from worker.images.metadata import metadata_of
from worker.images.pillow import open_image
from worker.images.resizing import TORCH_BYTES, resize_function
from worker.images.truncation import END_MARKER, check_complete, fill_grey, lacks_end

#: Limit of concurrent decoding: more images than cores would only take more memory.
_decoding = threading.BoundedSemaphore(CORES)
#: Default budget; an image that exceeds it is decoded while no other image is.
_BUDGET: Final = MemoryBudget(BUDGET_BYTES)

#: Pixels of a strip in conversions that need several copies.
STRIP_PIXELS: Final = 1 << 19
#: Copies of a strip, at 4 bytes per pixel.
STRIP_COPIES: Final = 6

_TRANSPOSES: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Decoder:
    """The decoder of one model. `size` is the side of its square input, in pixels.

    A `frame` describes an input of another form. With `keeps_proportions`, an image of more than
    `size * size` pixels is scaled down to these, and a smaller one keeps its size.

    With `draft`, the JPEG decoder scales the image down to no less than `draft` times that size:
    faster, but not exactly the processor's result (benchmarks/jpeg_draft.py). A JPEG without its
    end marker is decoded at its full size.
    """

    size: int
    resample: int
    max_pixels: int
    draft: int = 0
    #: Decode truncated files; Pillow needs `accept_truncated_images` for them.
    accepts_truncated: bool = False
    budget: MemoryBudget = field(default=_BUDGET, compare=False)
    frame: Frame | None = None
    keeps_proportions: bool = False
    backend: ImageBackend = "pil"

    @property
    def settings(self) -> dict[str, object]:
        """The settings that determine the pixels, or that an image is refused."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.compare}

    def decode(self, encoded: bytes) -> bytes:
        """Decode to RGB as uint8, row by row, height * width * 3 bytes, or to a PPM file.

        Uses the first frame of an animation, applies the EXIF orientation, and blends transparency
        on white. Raises ItemRejected.
        """
        if not encoded:
            raise ItemRejected(ErrorCode.IMAGE_INVALID, "the image is empty (0 bytes)")
        form = ""
        try:
            header = inspect_image(encoded, self.max_pixels)
            form = header.format
            return self._decode(encoded, header)
        except ItemRejected:
            raise
        except MemoryError:
            message = "the image does not fit into memory"
            raise ItemRejected(ErrorCode.IMAGE_TOO_LARGE, message) from None
        except Exception as error:
            # Pillow's decoders raise exceptions of any type for a broken file.
            raise ItemRejected(ErrorCode.IMAGE_INVALID, _damage(form, error)) from None

    def _decode(self, encoded: bytes, header: Header) -> bytes:
        if header.stripped is not None:
            encoded = header.stripped.data
        is_cut = header.format == "JPEG" and lacks_end(encoded)
        must_be_complete = is_cut and not self.accepts_truncated

        def reopen() -> ImageFile:
            return open_image(header.format, encoded + END_MARKER if is_cut else encoded)

        # Opening an image takes time but little memory.
        with _decoding:
            source = reopen()
        with source as image:
            check_size(*image.size, self.max_pixels)
            # The check of completeness decodes all pixels, and needs the memory for them.
            side = self.size if self.frame is None else self.frame.side
            if self.draft and side and not must_be_complete:
                image.draft(None, (self.draft * side,) * 2)
            with self.budget.reserve(needed_bytes(image, header, self.backend)), _decoding:
                loaded: Image.Image = image
                has_low_bytes = has_16_bit_colours(image)
                try:
                    if must_be_complete:
                        check_complete(encoded)
                    if self.accepts_truncated:
                        fill_grey(image)
                    loaded = complete = load_completely(image, encoded, reopen)
                    if has_low_bytes:
                        loaded = restore_low_samples(complete, reopen)
                    return self._pixels(loaded, header)
                finally:
                    # Free the image before its budget is released.
                    loaded.close()
                    image.close()

    def _pixels(self, image: Image.Image, header: Header) -> bytes:
        upright = _apply_orientation(image, _orientation(image, header))
        if upright is not image:
            image.close()
        whole, resample = _to_rgb(upright), Image.Resampling(self.resample)
        if self.keeps_proportions:
            size = bounded_size(whole.size, self.size**2)
            return as_ppm(whole if size == whole.size else whole.resize(size, resample))
        frame = self.frame or Frame.square(self.size)
        if frame.resize is not None:
            resize = resize_function(self.backend)
            whole = resize(whole, frame.resized(*whole.size), resample)
        if whole.size != (frame.width, frame.height):
            whole = whole.crop(frame.box(*whole.size, self.backend))
        return whole.tobytes()


def bounded_size(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """Return a width and height in the same proportions of at most `max_pixels`."""
    width, height = size
    scale = min(1.0, math.sqrt(max_pixels / (width * height)))
    # A side never becomes 0, so the other one may have to be shorter.
    narrow = max(1, int(min(size) * scale))
    wide = min(max(1, int(max(size) * scale)), max_pixels // narrow)
    return (wide, narrow) if width >= height else (narrow, wide)


def as_ppm(image: Image.Image) -> bytes:
    """Return an RGB image as a binary PPM file, which carries its size."""
    return b"P6 %d %d 255\n" % image.size + image.tobytes()


def _damage(form: str, error: Exception) -> str:
    """Return a message about a file that Pillow cannot decode, without the names of its parts."""
    is_truncated = "truncated" in str(error).lower()
    name = f"{format_name(form)} image".lstrip()
    if is_truncated:
        return (
            f"the {name} cannot be decoded: it is truncated; transfer it again "
            "(BLIPLINE_TRUNCATED_IMAGES=accept on the worker decodes its first part)"
        )
    return f"the {name} cannot be decoded: it is damaged or incomplete; transfer or save it again"


def needed_bytes(image: ImageFile, header: Header, backend: ImageBackend) -> int:
    """Return the peak memory of decoding; measured in tests/images/test_hostile_images.py."""
    stored = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}.get(image.mode, 4)
    # The decoded image, and a copy that is RGB or transposed.
    pixel_bytes = stored + 4
    if header.format == "JPEG" and image.mode == "RGB" and _orientation(image, header) == 1:
        # The common case needs no copy.
        pixel_bytes = stored
    if header.format == "WEBP":
        # libwebp's two frames, their source, and the copy that Pillow reads.
        pixel_bytes += 16
    elif header.format == "TIFF" or header.progressive:
        # A strip may be the whole image; coefficients stay in memory until the last scan.
        pixel_bytes += 8
    elif header.format == "PPM":
        # The samples of the file, scaled, and as bytes.
        pixel_bytes += 12
    if has_16_bit_colours(image):
        pixel_bytes += LOW_BYTES
    if backend == "torchvision":
        pixel_bytes += TORCH_BYTES
    pixels = image.width * image.height
    strip_bytes = min(pixels, STRIP_PIXELS) * STRIP_COPIES * 4
    file_bytes = len(header.stripped.data) if header.stripped else 0
    return pixels * pixel_bytes + strip_bytes + file_bytes + header.decoder_bytes


def _orientation(image: Image.Image, header: Header) -> int:
    metadata = header.stripped.metadata if header.stripped else metadata_of(image.info)
    return metadata.orientation


def _apply_orientation(image: Image.Image, orientation: int) -> Image.Image:
    transpose = _TRANSPOSES.get(orientation)
    return image if transpose is None else image.transpose(transpose)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        # Late import: these rare images alone need numpy.
        from worker.images.depth import to_8_bits

        return _convert_strips(image, to_8_bits(strip for _, strip in _strips(image)))
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        return _convert_strips(image, _blend_on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _convert_strips(
    image: Image.Image, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Convert each pixel independently, without intermediate copies of the whole image."""
    result: Image.Image | None = None
    for top, strip in _strips(image):
        converted = convert(strip)
        if converted.size == image.size:
            return converted
        result = result or Image.new("RGB", image.size)
        result.paste(converted, (0, top))
    assert result is not None
    return result


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield each strip with its top row."""
    rows = max(1, STRIP_PIXELS // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _blend_on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
