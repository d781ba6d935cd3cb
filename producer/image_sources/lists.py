"""Lists of paths and URLs, such as standard input: one a line, or separated by NUL bytes."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterator
from typing import BinaryIO, Final

from ..contract import MAX_REFERENCE_CHARS
from ..errors import InvalidInput
from ..ledger.blobs import is_reference
from ..ledger.data_url import is_data_url
from .image_files import is_image_name
from .picture import Picture, path_from
from .rows import ReferenceReader

#: Bytes read at once.
_BLOCK: Final = 1 << 16
#: Maximum bytes of an entry: a JSON object has other columns as well.
_MAX_ENTRY_BYTES: Final = MAX_REFERENCE_CHARS + (1 << 20)


def list_pictures(
    stream: BinaryIO,
    reader: ReferenceReader,
    *,
    null_separated: bool = False,
    has_objects: bool = False,
) -> Iterator[Picture]:
    """Yield a picture for each path, URL, or JSON object of a stream; blank lines are skipped.

    With `has_objects`, as in a file of JSON lines, other JSON is an error; else it is a path.
    """
    separator = b"\0" if null_separated else b"\n"
    for number, entry in enumerate(split(stream, separator), start=1):
        if not null_separated:
            entry = entry.rstrip(b"\r")
            if number == 1:
                entry = entry.removeprefix(codecs.BOM_UTF8)
        if not entry.strip():
            continue
        if len(entry) > _MAX_ENTRY_BYTES:
            message = f"longer than {_MAX_ENTRY_BYTES:,} bytes"
            yield reader.broken(message, number)
        elif entry.lstrip().startswith(b"{") and not null_separated:
            yield reader.json_line(entry, number)
        else:
            yield _path_picture(
                entry.decode("utf-8", "surrogateescape"), reader, number, has_objects
            )


def _path_picture(text: str, reader: ReferenceReader, number: int, has_objects: bool) -> Picture:
    try:
        if has_objects:
            check_is_reference(text, reader.folder)
    except InvalidInput as error:
        return reader.broken(f"line {number}: {error}", number)
    return reader.reference(text, {}, number)


def check_is_reference(text: str, folder: str) -> None:
    """Check that a line without an object is a URL, a file or the name of an image.

    Raises InvalidInput for other JSON, and for a damaged line, which is no path.
    """
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        is_path = is_image_name(text.strip()) or os.path.exists(path_from(folder, text))
        if is_path or is_reference(text) or is_data_url(text):
            return
        raise InvalidInput(f"not JSON: {text.strip()!r:.80}") from None
    raise InvalidInput(f"not an object, a path or a URL: {text.strip()!r:.80}")


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
