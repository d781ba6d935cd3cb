"""Truncated files: JPEGs that lack only their end marker, and a grey rest on request."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from PIL import Image, ImageFile

from worker.images.pillow import open_image

END_MARKER: Final = b"\xff\xd9"
#: Entropy-coded data behind a file, which changes no pixel of a complete image: nothing, which the
#: decoder reads as zeros, then a pattern and its complement, so that any missing bit differs.
_FILLERS: Final = (b"", b"\x6b\x2d" * 99, b"\x94\xd2" * 99)
#: Rows that are hashed together.
_STRIP_ROWS: Final = 64
#: Markers between entropy-coded data, in which zero or a restart marker may follow 0xFF.
_MARKER: Final = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]")
_SCAN: Final = 0xDA
_END: Final = 0xD9
#: Maximum segments of a JPEG that are searched for its end.
_MAX_SEGMENTS: Final = 1 << 16
_COEFFICIENTS: Final = 64
#: Formats whose missing pixels are filled before decoding; a GIF has its background instead.
_FILLED: Final = ("JPEG", "PNG", "BMP", "PPM", "TIFF")


class TruncatedImage(Exception):
    """A file that ends before its last pixel."""


def accept_truncated_images() -> None:
    """Make Pillow decode truncated files, in the whole process."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True


def lacks_end(jpeg: bytes) -> bool:
    """Return whether a JPEG has pixels but no end marker."""
    if jpeg.endswith(END_MARKER):
        return False
    kinds = [jpeg[offset + 1] for offset in _segments(jpeg)]
    return _SCAN in kinds and _END not in kinds and len(kinds) < _MAX_SEGMENTS


def check_complete(jpeg: bytes) -> None:
    """Raise TruncatedImage if a JPEG lacks more than its end marker.

    The pixels of a complete image do not depend on the bytes behind it.
    """
    # With the first byte of a marker at its end, the filler would begin a segment.
    jpeg = jpeg.rstrip(b"\xff")
    if not _has_all_scans(jpeg) or len({_digest(jpeg + filler) for filler in _FILLERS}) > 1:
        raise TruncatedImage("the JPEG is truncated")


def fill_grey(image: ImageFile.ImageFile) -> None:
    """Set the pixels that a truncated file lacks; in a palette image, to the first colour."""
    if image.format not in _FILLED or image.mode == "P":
        return
    is_deep = image.mode.startswith(("I", "F"))
    grey = Image.new("L", (1, 1), 128)
    colour = 1 << 15 if is_deep else grey.convert(image.mode).getpixel((0, 0))
    image.im = Image.new(image.mode, image.size, colour).im


def _digest(jpeg: bytes) -> bytes:
    digest = hashlib.sha256()
    with open_image("JPEG", jpeg + END_MARKER) as image:
        image.load()
        for top in range(0, image.height, _STRIP_ROWS):
            bottom = min(top + _STRIP_ROWS, image.height)
            digest.update(image.crop((0, top, image.width, bottom)).tobytes())
    return digest.digest()


def _has_all_scans(jpeg: bytes) -> bool:
    """Return whether the scans give each coefficient of each component its full precision."""
    missing_bits: dict[int, list[int]] = {}
    for offset in _segments(jpeg):
        marker, body = jpeg[offset + 1], jpeg[offset + 4 : offset + 4 + 12]
        if marker in (0xC0, 0xC1, 0xC2):
            components = jpeg[offset + 10 : offset + 10 + 3 * jpeg[offset + 9] : 3]
            missing_bits = {component: [1] * _COEFFICIENTS for component in components}
        elif marker == _SCAN:
            selectors = body[1 : 1 + 2 * body[0] : 2]
            first, final, precision = body[1 + 2 * body[0] :][:3]
            for component in selectors:
                bits = missing_bits.get(component, [])
                bits[first : final + 1] = [precision & 15] * len(bits[first : final + 1])
    return bool(missing_bits) and not any(map(any, missing_bits.values()))


def _segments(jpeg: bytes) -> list[int]:
    """Return the offsets of the segments up to the end marker."""
    offsets: list[int] = []
    position = 2
    while len(offsets) < _MAX_SEGMENTS and (marker := _MARKER.search(jpeg, position)):
        offsets.append(marker.start())
        if jpeg[marker.start() + 1] == _END:
            break
        length = int.from_bytes(jpeg[marker.start() + 2 : marker.start() + 4], "big")
        position = marker.start() + 2 + max(2, length)
    return offsets
