"""Lists of paths and URLs, such as standard input: one a line, or separated by NUL bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from ..contract import MAX_REFERENCE_CHARS
from .picture import Picture
from .rows import ReferenceReader

#: Bytes read at once.
_BLOCK: Final = 1 << 16
#: Maximum bytes of an entry: a JSON object has other columns as well.
_MAX_ENTRY_BYTES: Final = MAX_REFERENCE_CHARS + (1 << 20)


def list_pictures(
    stream: BinaryIO, reader: ReferenceReader, *, null_separated: bool = False
) -> Iterator[Picture]:
    """Yield a picture for each path, URL, or JSON object of a stream; blank lines are skipped."""
    separator = b"\0" if null_separated else b"\n"
    for number, entry in enumerate(split(stream, separator), start=1):
        if not null_separated:
            entry = entry.rstrip(b"\r")
        if not entry.strip():
            continue
        if len(entry) > _MAX_ENTRY_BYTES:
            message = f"longer than {_MAX_ENTRY_BYTES:,} bytes"
            yield reader.broken(message, number)
        elif entry.lstrip().startswith(b"{") and not null_separated:
            yield reader.json_line(entry, number)
        else:
            yield reader.reference(entry.decode("utf-8", "surrogateescape"), {}, number)


def split(stream: BinaryIO, separator: bytes) -> Iterator[bytes]:
    """Yield the parts of a stream; one that is too long is cut, and its rest dropped."""
    rest = b""
    # read1 returns what a pipe has, so that a slow writer's lines are not held back.
    read = getattr(stream, "read1", stream.read)
    while block := read(_BLOCK):
        *parts, rest = (rest + block).split(separator)
        yield from parts
        if len(rest) > _MAX_ENTRY_BYTES:
            rest = rest[: _MAX_ENTRY_BYTES + 1]
    if rest:
        yield rest
