"""Header checks of GIF files, and their reduction to the first frame."""

from __future__ import annotations

import struct
from typing import Final

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.limits import check_size, too_complex

#: Maximum blocks before the first frame of a GIF.
MAX_BLOCKS: Final = 1 << 18

_FRAME: Final = 0x2C
_TRAILER: Final = 0x3B
_EXTENSION: Final = 0x21
#: The extension that contains the frame's transparency.
_CONTROL: Final = b"\xf9"


def strip_gif(data: bytes, max_pixels: int) -> bytes:
    """Return the file without comments and application data before its first frame.

    Pillow joins comments one by one. Raises ItemRejected for a GIF that must not be opened.
    """
    screen_width, screen_height = struct.unpack_from("<HH", data.ljust(10, b"\0"), 6)
    check_size(screen_width, screen_height, max_pixels)
    flags = data[10] if len(data) > 10 else 0
    start = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    frame, controls = _find_first_frame(data, start)
    if frame is None:
        message = "the GIF image cannot be decoded: it has no frame; transfer or save it again"
        raise ItemRejected(ErrorCode.IMAGE_INVALID, message)
    # A frame may be larger than the screen, which then grows.
    x, y, width, height = struct.unpack_from("<HHHH", data.ljust(frame + 9, b"\0"), frame + 1)
    check_size(max(screen_width, x + width), max(screen_height, y + height), max_pixels)
    return b"".join([data[:start], *controls, data[frame:]])


def _find_first_frame(data: bytes, offset: int) -> tuple[int | None, list[bytes]]:
    """Return the offset of the first frame, as Pillow finds it, and the control blocks before."""
    controls: list[bytes] = []
    blocks = 0
    while offset < len(data):
        kind, start = data[offset], offset
        if kind == _FRAME:
            return offset, controls
        if kind == _TRAILER:
            break
        offset += 1
        blocks += 1
        if kind == _EXTENSION:
            label = data[offset : offset + 1]
            offset, skipped = _skip_extension(data, offset)
            blocks += skipped
            if label == _CONTROL:
                controls.append(data[start:offset])
        if blocks > MAX_BLOCKS:
            raise too_complex("blocks before its first frame")
    return None, controls


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
