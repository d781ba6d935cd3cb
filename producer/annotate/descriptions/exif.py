"""EXIF's ImageDescription, written without a move of any other value."""

from __future__ import annotations

import struct
from typing import Final

_DESCRIPTION: Final = 0x010E
_ASCII: Final = 2
_ENTRY_BYTES: Final = 12
#: Blocks longer than this are no EXIF.
MAX_EXIF_BYTES: Final = 1 << 24
_EMPTY: Final = b"II*\0\x08\0\0\0\0\0\0\0\0\0"


def with_description(tiff: bytes | None, text: str) -> bytes:
    """Return an EXIF block with this description; raises ValueError for a damaged block.

    A new first directory is appended, and nothing else moves: maker notes and thumbnails have
    absolute offsets. The text is UTF-8, as the Metadata Working Group recommends.
    """
    tiff = tiff or _EMPTY
    if tiff[:4] not in (b"II*\0", b"MM\0*") or len(tiff) > MAX_EXIF_BYTES:
        raise ValueError("not an EXIF block")
    order = "<" if tiff[:1] == b"I" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        entries = [
            bytes(tiff[start + 2 + _ENTRY_BYTES * n : start + 2 + _ENTRY_BYTES * (n + 1)])
            for n in range(count)
        ]
        (next_directory,) = struct.unpack_from(f"{order}I", tiff, start + 2 + _ENTRY_BYTES * count)
    except struct.error:
        raise ValueError("a damaged EXIF block") from None

    def tag_of(entry: bytes) -> int:
        return int.from_bytes(entry[:2], "little" if order == "<" else "big")

    # Values of up to four bytes would stand in the entry itself.
    value = text.encode("utf-8", "replace").replace(b"\0", b"").ljust(4, b" ") + b"\0"
    body = tiff + b"\0" * (len(tiff) % 2)
    entries = [entry for entry in entries if tag_of(entry) != _DESCRIPTION]
    text_at = len(body) + 2 + _ENTRY_BYTES * (len(entries) + 1) + 4
    entries.append(struct.pack(f"{order}HHII", _DESCRIPTION, _ASCII, len(value), text_at))
    entries.sort(key=tag_of)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries)
    directory += struct.pack(f"{order}I", next_directory)
    return body[:4] + struct.pack(f"{order}I", len(body)) + body[8:] + directory + value
