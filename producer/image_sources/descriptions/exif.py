"""EXIF's ImageDescription: read, and written without a move of any other value."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

_DESCRIPTION: Final = 0x010E
_ASCII: Final = 2
_ENTRY_BYTES: Final = 12
#: Blocks longer than this are no EXIF.
MAX_EXIF_BYTES: Final = 1 << 24
_EMPTY: Final = b"II*\0\x08\0\0\0\0\0\0\0\0\0"


#: Texts that cameras and scanners write without being asked: no descriptions.
_BOILERPLATE: Final = frozenset(
    {
        "olympus digital camera",
        "minolta digital camera",
        "konica minolta digital camera",
        "digital camera",
        "sony dsc",
        "dcim",
        "exif_jpeg_picture",
        "exif jpeg",
        "default",
        "untitled",
    }
)


class _ExifDirectory(NamedTuple):
    """The first directory of an EXIF block."""

    #: Byte order, as `struct` names it.
    order: str
    entries: list[bytes]
    next_directory: int

    def tag_of(self, entry: bytes) -> int:
        return int.from_bytes(entry[:2], "little" if self.order == "<" else "big")


def description_of(tiff: bytes) -> str | None:
    """Return the description of an EXIF block, unless a camera wrote it by default.

    Raises ValueError for a damaged block.
    """
    directory = _directory(tiff)
    entry = next((e for e in directory.entries if directory.tag_of(e) == _DESCRIPTION), None)
    if entry is None:
        return None
    kind, length, offset = struct.unpack_from(f"{directory.order}HII", entry, 2)
    if kind != _ASCII:
        return None
    value = entry[8 : 8 + length] if length <= 4 else tiff[offset : offset + length]
    text = value.rstrip(b"\0").decode("utf-8", "replace").strip()
    return None if text.casefold() in _BOILERPLATE else text or None


def with_description(tiff: bytes | None, text: str) -> bytes:
    """Return an EXIF block with this description; raises ValueError for a damaged block.

    A new first directory is appended, and nothing else moves: maker notes and thumbnails have
    absolute offsets. The text is UTF-8, as the Metadata Working Group recommends.
    """
    tiff = tiff or _EMPTY
    directory = _directory(tiff)
    order, tag_of = directory.order, directory.tag_of
    # Values of up to four bytes would stand in the entry itself.
    value = text.encode("utf-8", "replace").replace(b"\0", b"").ljust(4, b" ") + b"\0"
    body = tiff + b"\0" * (len(tiff) % 2)
    entries = [entry for entry in directory.entries if tag_of(entry) != _DESCRIPTION]
    text_at = len(body) + 2 + _ENTRY_BYTES * (len(entries) + 1) + 4
    entries.append(struct.pack(f"{order}HHII", _DESCRIPTION, _ASCII, len(value), text_at))
    entries.sort(key=tag_of)
    packed = struct.pack(f"{order}H", len(entries)) + b"".join(entries)
    packed += struct.pack(f"{order}I", directory.next_directory)
    return body[:4] + struct.pack(f"{order}I", len(body)) + body[8:] + packed + value


def _directory(tiff: bytes) -> _ExifDirectory:
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
    return _ExifDirectory(order, entries, next_directory)
