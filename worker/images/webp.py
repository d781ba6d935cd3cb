"""Header checks of WebP files, and their reduction to the chunks of one picture."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from worker.images.limits import check_size, too_complex
from worker.images.metadata import Metadata, StrippedFile

#: Maximum chunks of a WebP.
CHUNKS: Final = 1 << 18

_ANIMATED: Final = 0x02
#: The flags of a colour profile, EXIF data and XMP.
_METADATA_FLAGS: Final = 0x20 | 0x08 | 0x04
_STILL_KINDS: Final = (b"ALPH", b"VP8 ", b"VP8L")
_FRAME_KINDS: Final = (b"ANIM", b"ANMF")


def strip_webp(data: bytes, max_pixels: int) -> StrippedFile:
    """Return the file with its picture alone, the first frame of an animation, and its metadata.

    Raises ItemRejected for a WebP that must not be opened.
    """
    check_size(*_size(data), max_pixels)
    if data[12:16] != b"VP8X":
        # No chunk but the picture counts in the simple formats.
        return StrippedFile(data)
    flags = data[20] if len(data) > 20 else 0
    kinds = _FRAME_KINDS if flags & _ANIMATED else _STILL_KINDS
    chunks: dict[bytes, bytes] = {}
    for kind, start, end in _chunks(data):
        if kind not in chunks and kind in (b"VP8X", b"EXIF", b"XMP ", *kinds):
            chunks[kind] = data[start:end]
    exif, xmp = (chunks.pop(kind, b"")[8:] for kind in (b"EXIF", b"XMP "))
    head = bytearray(chunks.pop(b"VP8X"))
    head[8:9] = bytes([flags & ~_METADATA_FLAGS])
    body = b"WEBP" + b"".join([bytes(head), *chunks.values()])
    return StrippedFile(b"RIFF" + struct.pack("<I", len(body)) + body, Metadata(exif, xmp))


def _size(data: bytes) -> tuple[int, int]:
    kind, head = data[12:16], data[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        width = int.from_bytes(head[4:7], "little") + 1
        return width, int.from_bytes(head[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width = int.from_bytes(head[6:8], "little") & 0x3FFF
    return width, int.from_bytes(head[8:10], "little") & 0x3FFF


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each chunk."""
    offset, count = 12, 0
    while offset + 8 <= len(data):
        count += 1
        if count > CHUNKS:
            raise too_complex("chunks")
        length = int.from_bytes(data[offset + 4 : offset + 8], "little")
        end = offset + 8 + length + length % 2
        yield data[offset : offset + 4], offset, end
        offset = end
