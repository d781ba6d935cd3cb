"""Header checks of PNG files, and their reduction to the chunks of one picture.

Pillow parses every chunk, and rejects a picture because of a text, a profile or the frame of an
animation that is damaged or one of too many.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from worker.images.limits import check_size, too_complex
from worker.images.metadata import Metadata, StrippedFile, raw_profile

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
#: Maximum chunks of a PNG that determine its pixels, and maximum chunks in all.
PIXEL_CHUNKS: Final = 1 << 16
CHUNKS: Final = 1 << 18
#: Maximum bytes of a text that may contain the orientation.
TEXT_BYTES: Final = 1 << 20

_PIXEL_KINDS: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_EXIF: Final = b"Raw profile type exif"
_XMP: Final = b"XML:com.adobe.xmp"


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    #: Bytes of the body.
    length: int

    @property
    def end(self) -> int:
        """The offset of the next chunk."""
        return self.start + 12 + self.length

    def body(self, data: bytes) -> bytes:
        return data[self.start + 8 : self.start + 8 + self.length]


def strip_png(data: bytes, max_pixels: int) -> StrippedFile:
    """Return the file with the chunks of its picture alone: no metadata, no further frames.

    Raises ItemRejected for a PNG that must not be opened.
    """
    parts, texts, exif = [SIGNATURE], dict[bytes, _Chunk](), b""
    for chunk in _chunks(data):
        if chunk.kind in _PIXEL_KINDS:
            if chunk.kind == b"IHDR":
                # Check each header chunk, since Pillow uses the last.
                width, height = struct.unpack(">II", chunk.body(data)[:8].ljust(8, b"\0"))
                check_size(width, height, max_pixels)
            if chunk.length or chunk.kind != b"IDAT":
                parts.append(data[chunk.start : chunk.end])
            if len(parts) > PIXEL_CHUNKS:
                raise too_complex("chunks")
        elif chunk.kind == b"eXIf":
            exif = chunk.body(data)
        elif chunk.kind in (b"tEXt", b"zTXt", b"iTXt"):
            for name in (_EXIF, _XMP):
                if data.startswith(name + b"\0", chunk.start + 8):
                    texts[name] = chunk
    if not exif and _EXIF in texts:
        exif = raw_profile(_text(texts[_EXIF], data).decode("latin-1"))
    xmp = _text(texts[_XMP], data) if _XMP in texts else b""
    return StrippedFile(b"".join(parts), Metadata(exif, xmp))


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Yield the chunks up to the end of the picture, the last of a truncated file included."""
    offset, count = len(SIGNATURE), 0
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        chunk = _Chunk(kind, offset, length)
        yield chunk
        count += 1
        if count > CHUNKS:
            raise too_complex("chunks")
        if kind == b"IEND":
            return
        offset = chunk.end


def _text(chunk: _Chunk, data: bytes) -> bytes:
    """Return the text of a text chunk; empty if it is damaged."""
    value = chunk.body(data).partition(b"\0")[2]
    if chunk.kind == b"zTXt":
        return _inflate(value[1:])
    if chunk.kind == b"iTXt":
        is_compressed = value[:1] != b"\0"
        # After the flag and the method: the language, and the translated name.
        value = value[2:].split(b"\0", 2)[-1]
        return _inflate(value) if is_compressed else value
    return value


def _inflate(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, TEXT_BYTES)
    except zlib.error:
        return b""
