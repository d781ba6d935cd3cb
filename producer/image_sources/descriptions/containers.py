"""Image files as sequences of segments or chunks, in which EXIF and XMP are replaced."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ..extras import required
from . import exif, xmp

_JPEG_EXIF: Final = b"Exif\0\0"
_JPEG_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
#: Maximum bytes of a segment of a JPEG, without its marker and length.
_SEGMENT_BYTES: Final = 65_533
_APP0: Final = 0xE0
_APP1: Final = 0xE1
_START_OF_SCAN: Final = 0xDA
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_XMP: Final = b"XML:com.adobe.xmp\0\0\0\0\0"
#: Flags of a WebP's VP8X chunk.
_WEBP_XMP, _WEBP_EXIF, _WEBP_ALPHA = 0x04, 0x08, 0x10


def describe(image: bytes, text: str) -> bytes:
    """Return an image file with a description in EXIF and XMP; its pixels are unchanged.

    Raises ValueError for a damaged file, and for a format other than JPEG, PNG and WebP.
    """
    return _format_of(image).describe(image, text)


def description_of(image: bytes) -> str | None:
    """Return the description of an image file: that of XMP, else of EXIF; None if there is none."""
    try:
        form = _format_of(image)
        packet = form.xmp(image)
        text = None if packet is None else xmp.description_of(packet)
        block = form.exif(image) if text is None else None
        return text if block is None else exif.description_of(block)
    except (ValueError, struct.error):
        return None


class _Format(NamedTuple):
    """Functions that change and read the files of a format."""

    describe: Callable[[bytes, str], bytes]
    xmp: Callable[[bytes], bytes | None]
    exif: Callable[[bytes], bytes | None]


def _format_of(image: bytes) -> _Format:
    if image.startswith(b"\xff\xd8"):
        return _Format(_jpeg, _jpeg_xmp, _jpeg_exif)
    if image.startswith(_PNG):
        return _Format(_png, _png_xmp, _png_exif)
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return _Format(_webp, _webp_xmp, _webp_exif)
    raise ValueError("only JPEG, PNG and WebP can have a description")


def _segments(image: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the content of each segment; the last one is the rest of the file."""
    position = 2
    while position + 4 <= len(image):
        if image[position] != 0xFF:
            raise ValueError("a damaged JPEG")
        marker = image[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        (length,) = struct.unpack_from(">H", image, position + 2)
        if marker == _START_OF_SCAN:
            break
        if length < 2:
            raise ValueError("a damaged JPEG")
        yield marker, image[position + 4 : position + 2 + length]
        position += 2 + length
    else:
        raise ValueError("a JPEG without an image")
    yield _START_OF_SCAN, image[position:]


def _jpeg(image: bytes, text: str) -> bytes:
    *segments, (_, scan) = _segments(image)
    old_exif = _jpeg_exif(image)
    new_exif = _JPEG_EXIF + exif.with_description(old_exif, text)
    new_xmp = _JPEG_XMP + xmp.with_description(_jpeg_xmp(image), text)
    if len(new_xmp) > _SEGMENT_BYTES:
        raise ValueError("the XMP packet would have more than 64 KiB")
    inserted = [(_APP1, new_xmp)]
    if len(new_exif) <= _SEGMENT_BYTES:
        inserted.insert(0, (_APP1, new_exif))
    elif old_exif is not None:
        # The description does not fit beside a thumbnail; XMP has it.
        inserted.insert(0, (_APP1, _JPEG_EXIF + old_exif))
    others = [
        (marker, content)
        for marker, content in segments
        if not (marker == _APP1 and content.startswith((_JPEG_EXIF, _JPEG_XMP)))
    ]
    # JFIF's segment must be the first.
    first = 1 if others and others[0][0] == _APP0 else 0
    others[first:first] = inserted
    parts = (struct.pack(">BBH", 0xFF, m, len(content) + 2) + content for m, content in others)
    return b"\xff\xd8" + b"".join(parts) + scan


def _jpeg_xmp(image: bytes) -> bytes | None:
    return _jpeg_app1(image, _JPEG_XMP)


def _jpeg_exif(image: bytes) -> bytes | None:
    return _jpeg_app1(image, _JPEG_EXIF)


def _jpeg_app1(image: bytes, prefix: bytes) -> bytes | None:
    return next(
        (
            content[len(prefix) :]
            for marker, content in _segments(image)
            if marker == _APP1 and content.startswith(prefix)
        ),
        None,
    )


def _png_chunks(image: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(_PNG)
    while position + 8 <= len(image):
        length, kind = struct.unpack_from(">I4s", image, position)
        content = image[position + 8 : position + 8 + length]
        if len(content) < length:
            raise ValueError("a truncated PNG")
        yield kind, content
        position += 12 + length


def _png(image: bytes, text: str) -> bytes:
    chunks = list(_png_chunks(image))
    inserted = [
        (b"eXIf", exif.with_description(_png_exif(image), text)),
        (b"iTXt", _PNG_XMP + xmp.with_description(_png_xmp(image), text)),
    ]
    others = [
        (kind, content)
        for kind, content in chunks
        if kind != b"eXIf" and not (kind == b"iTXt" and content.startswith(b"XML:com.adobe.xmp\0"))
    ]
    others[1:1] = inserted
    parts = (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in others
    )
    return _PNG + b"".join(parts)


def _png_xmp(image: bytes) -> bytes | None:
    for kind, content in _png_chunks(image):
        if kind == b"iTXt" and content.startswith(_PNG_XMP[:19]):
            # Compression flag 0; language and translated keyword end with NUL each.
            return content[20:].split(b"\0", 2)[-1]
    return None


def _png_exif(image: bytes) -> bytes | None:
    return next((content for kind, content in _png_chunks(image) if kind == b"eXIf"), None)


def _webp_chunks(image: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    while position + 8 <= len(image):
        kind, length = struct.unpack_from("<4sI", image, position)
        content = image[position + 8 : position + 8 + length]
        if len(content) < length:
            raise ValueError("a truncated WebP")
        yield kind, content
        position += 8 + length + length % 2


def _webp(image: bytes, text: str) -> bytes:
    chunks = list(_webp_chunks(image))
    contents = dict(chunks)
    new_exif = exif.with_description(contents.get(b"EXIF"), text)
    new_xmp = xmp.with_description(contents.get(b"XMP "), text)
    header = bytearray(contents.get(b"VP8X") or _webp_header(image))
    header[0] |= _WEBP_XMP | _WEBP_EXIF
    others = [chunk for chunk in chunks if chunk[0] not in (b"VP8X", b"EXIF", b"XMP ")]
    others = [(b"VP8X", bytes(header)), *others, (b"EXIF", new_exif), (b"XMP ", new_xmp)]
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for kind, content in others
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_header(image: bytes) -> bytes:
    """Return the VP8X chunk of a file that has none."""
    try:
        with required("PIL.Image").open(io.BytesIO(image)) as opened:
            width, height = opened.size
            flags = _WEBP_ALPHA if "A" in opened.mode else 0
    except OSError:
        raise ValueError("a damaged WebP") from None
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return bytes([flags, 0, 0, 0]) + size


def _webp_xmp(image: bytes) -> bytes | None:
    return dict(_webp_chunks(image)).get(b"XMP ")


def _webp_exif(image: bytes) -> bytes | None:
    return dict(_webp_chunks(image)).get(b"EXIF")
