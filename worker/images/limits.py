"""Size limits that apply to images of every format."""

from __future__ import annotations

from typing import Final

from producer.contract import ErrorCode
from worker.errors import ItemRejected

#: Maximum pixels of a side: resizing builds a table of 32 bytes per pixel.
MAX_SIDE: Final = 1_000_000


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise ItemRejected for an image with too many pixels."""
    if width * height > max_pixels:
        raise ItemRejected(
            ErrorCode.IMAGE_TOO_LARGE,
            f"the image has {width} x {height} pixels; the limit is {max_pixels:,} "
            "(BLIPLINE_MAX_IMAGE_PIXELS of the worker)",
        )
    if max(width, height) > MAX_SIDE:
        message = f"the image has {width} x {height} pixels; the limit of a side is {MAX_SIDE:,}"
        raise ItemRejected(ErrorCode.IMAGE_TOO_LARGE, message)


def too_complex(parts: str) -> ItemRejected:
    """Return the error of a file with more of these parts than any image needs."""
    return ItemRejected(ErrorCode.IMAGE_INVALID, f"the file has more {parts} than an image needs")


def incomplete(form: str) -> ItemRejected:
    """Return the error of a file of this format without some of its pixels."""
    message = f"the {form} holds fewer pixels than its header declares; save it again"
    return ItemRejected(ErrorCode.IMAGE_INVALID, message)
