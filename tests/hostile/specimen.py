"""Specimens: files that a client may send, with the outcomes that are allowed."""

from __future__ import annotations

import io
import struct
import zlib
from random import Random
from typing import Any, Final, NamedTuple

from PIL import Image

ANSWERED: Final = "answered"
INVALID: Final = "image_invalid"
TOO_LARGE: Final = "image_too_large"
#: A damaged file may still be readable, and may claim any size.
ANY: Final = frozenset({ANSWERED, INVALID, TOO_LARGE})


class Specimen(NamedTuple):
    """A file and its allowed outcomes: error codes, or `answered`."""

    name: str
    data: bytes
    outcomes: frozenset[str]


def specimen(name: str, data: bytes, *outcomes: str) -> Specimen:
    """Return a specimen with these outcomes."""
    return Specimen(name, data, frozenset(outcomes))


def picture(width: int = 96, height: int = 72, mode: str = "RGB", seed: int = 7) -> Image.Image:
    """Return soft noise, which has edges and colours, and compresses a little."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    small = Image.frombytes(mode, (12, 9), Random(seed).randbytes(12 * 9 * bands))
    return small.resize((width, height), Image.Resampling.BILINEAR)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """Encode an image as a file of this format."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def heic(image: Image.Image, quality: int = 50, **options: Any) -> bytes:
    """Encode an image as HEIC, without registering an opener in Pillow; -1 is lossless."""
    # Other tests of images work without this optional package.
    import pillow_heif

    file = io.BytesIO()
    speed = {"preset": "ultrafast"}
    pillow_heif.from_pillow(image).save(file, quality=quality, enc_params=speed, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes) -> bytes:
    """Return a PNG of these chunks and the final one."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def ihdr(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    """Return the header chunk of a PNG."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def segment(marker: int, body: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def tiff(entries: list[tuple[int, int, int, int]], tail: bytes = b"", following: int = 0) -> bytes:
    """Return a TIFF whose first directory, at byte 8, has these entries.

    An entry is (tag, type, count, value or offset); offsets count from the start of the file.
    `tail` follows the directory.
    """
    head = b"II\x2a\x00" + struct.pack("<I", 8) + struct.pack("<H", len(entries))
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return head + rows + struct.pack("<I", following) + tail
