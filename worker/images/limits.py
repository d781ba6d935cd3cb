"""Size limits of encoded images of every format."""

from __future__ import annotations

from typing import Final

from producer.contract import ErrorCode
from worker.errors import ItemRejected

#: Maximum pixels of one side: the table that resizing builds has 32 bytes for each.
MAX_SIDE: Final = 1_000_000


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise ItemRejected for an image with more pixels than are decoded."""
    if width * height > max_pixels:
        raise ItemRejected(
            ErrorCode.IMAGE_TOO_LARGE,
            f"the image has {width} x {height} pixels; at most {max_pixels:,} are decoded",
        )
    if max(width, height) > MAX_SIDE:
        message = f"the image has {width} x {height} pixels; a side may have {MAX_SIDE:,}"
        raise ItemRejected(ErrorCode.IMAGE_TOO_LARGE, message)


def too_complex(parts: str) -> ItemRejected:
    """Return the error of a file with more parts of a kind than any image needs."""
    return ItemRejected(ErrorCode.IMAGE_INVALID, f"the file has more {parts} than an image needs")
