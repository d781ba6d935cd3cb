"""Header checks of GIF files: the size of the first frame and the blocks before it."""

from __future__ import annotations

import struct
from typing import Final

from worker.images.limits import check_size, too_complex

#: Maximum bytes and blocks before the first frame of a GIF: Pillow joins comments one by one.
MAX_BYTES: Final = 1 << 20
MAX_BLOCKS: Final = 1 << 14


def check_gif(data: bytes, max_pixels: int) -> None:
    """Raise ItemRejected for a GIF that must not be opened."""
    screen_width, screen_height = struct.unpack_from("<HH", data.ljust(10, b"\0"), 6)
    check_size(screen_width, screen_height, max_pixels)
    offset = _find_first_frame(data)
    if offset is not None:
        # A frame may be larger than the screen, which then grows.
        x, y, width, height = struct.unpack_from("<HHHH", data.ljust(offset + 8, b"\0"), offset)
        check_size(max(screen_width, x + width), max(screen_height, y + height), max_pixels)


def _find_first_frame(data: bytes) -> int | None:
    """Return the offset of the first frame's position and size; search for it as Pillow does."""
    flags = data[10] if len(data) > 10 else 0
    offset = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    start, blocks = offset, 0
    while offset < len(data):
        kind = data[offset]
        offset += 1
        if kind == 0x2C:
            return offset
        if kind == 0x3B:
            return None
        if kind == 0x21:
            offset, skipped = _skip_extension(data, offset)
            blocks += skipped
        if offset - start > MAX_BYTES or blocks > MAX_BLOCKS:
            raise too_complex("blocks before its first frame")
    return None


def _skip_extension(data: bytes, offset: int) -> tuple[int, int]:
    """Return the offset after an extension and the number of its blocks."""
    label = data[offset : offset + 1]
    offset, blocks = offset + 1, 1
    first = offset
    offset += 1 + _byte(data, offset)
    if label == b"\xfe" and offset == first + 1:
        return offset, blocks
    if label == b"\xff" and data[first + 1 : first + 12] == b"NETSCAPE2.0":
        offset += 1 + _byte(data, offset)
    while size := _byte(data, offset):
        offset += 1 + size
        blocks += 1
        if blocks > MAX_BLOCKS:
            break
    return offset + 1, blocks


def _byte(data: bytes, offset: int) -> int:
    return data[offset] if offset < len(data) else 0
