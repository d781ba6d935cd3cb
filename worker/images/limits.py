"""Bounds of every encoded image, whatever its format."""

from __future__ import annotations

from typing import Final

from producer.contract import ErrorCode
from worker.errors import ItemRejected

#: Pixels of one side: the table that resizing makes has 32 bytes for each.
MAX_SIDE: Final = 1_000_000


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises Refused for more than is decoded."""
    if width * height > max_pixels:
        raise ItemRejected(
            ErrorCode.IMAGE_TOO_LARGE,
            f"the image has {width} x {height} pixels; at most {max_pixels:,} are decoded",
        )
    if max(width, height) > MAX_SIDE:
        about = f"the image has {width} x {height} pixels; a side may have {MAX_SIDE:,}"
        raise ItemRejected(ErrorCode.IMAGE_TOO_LARGE, about)


def too_complex(what: str) -> ItemRejected:
    """The error of a file that has more of something than any image needs."""
    return ItemRejected(ErrorCode.IMAGE_INVALID, f"the file has more {what} than an image needs")
