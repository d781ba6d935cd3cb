"""GIFs: what stands before their first picture, and how large that is."""

from __future__ import annotations

import struct
from typing import Final

from worker.images.limits import check_size, too_complex

#: Bytes before the first picture of a GIF, and blocks there: Pillow joins comments one by one.
MAX_BYTES: Final = 1 << 20
MAX_BLOCKS: Final = 1 << 14


def check_gif(data: bytes, max_pixels: int) -> None:
    """Raises Refused for what is not to be opened."""
    across, down = struct.unpack_from("<HH", data.ljust(10, b"\0"), 6)
    check_size(across, down, max_pixels)
    at = _first_picture(data)
    if at is not None:
        # A picture may be larger than the screen: the screen grows.
        x, y, width, height = struct.unpack_from("<HHHH", data.ljust(at + 8, b"\0"), at)
        check_size(max(across, x + width), max(down, y + height), max_pixels)


def _first_picture(data: bytes) -> int | None:
    """Where the first picture's place and size stand; found as Pillow finds it."""
    flags = data[10] if len(data) > 10 else 0
    at = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    start, blocks = at, 0
    while at < len(data):
        kind = data[at]
        at += 1
        if kind == 0x2C:
            return at
        if kind == 0x3B:
            return None
        if kind == 0x21:
            at, passed = _extension(data, at)
            blocks += passed
        if at - start > MAX_BYTES or blocks > MAX_BLOCKS:
            raise too_complex("blocks before its first picture")
    return None


def _extension(data: bytes, at: int) -> tuple[int, int]:
    """Where it ends, and the blocks it has."""
    label = data[at : at + 1]
    at, blocks = at + 1, 1
    first = at
    at += 1 + _byte(data, at)
    if label == b"\xfe" and at == first + 1:
        return at, blocks
    if label == b"\xff" and data[first + 1 : first + 12] == b"NETSCAPE2.0":
        at += 1 + _byte(data, at)
    while size := _byte(data, at):
        at += 1 + size
        blocks += 1
        if blocks > MAX_BLOCKS:
            break
    return at + 1, blocks


def _byte(data: bytes, at: int) -> int:
    return data[at] if at < len(data) else 0
