"""Forms of files with rows, by content first: `blipline annotate --format` writes any name."""

from __future__ import annotations

import os
import re
from typing import Final, Literal

from .image_files import is_image_name

#: ``json`` is one document, a list of rows or kohya's metadata; ``list`` has a path a line.
Form = Literal["jsonl", "csv", "tsv", "json", "parquet", "tar", "list"]

_SUFFIXES: Final[dict[str, Form]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".tar": "tar",
    ".tgz": "tar",
    ".gz": "tar",
    ".txt": "list",
}
#: A JSON document in place of JSON lines: an object over several lines, or a list of objects.
_DOCUMENT: Final = re.compile(rb"\{\s*\n|\[\s*\{")
#: The header of tables that `blipline annotate` writes.
_HEADER: Final = re.compile(rb"file_name([,\t])")
#: Place and text of a tar archive's signature.
_TAR: Final = (257, b"ustar")
_HEAD_BYTES: Final = 512


def form_of(path: str) -> Form | None:
    """Return the form of a file; None if neither its content nor its name tells.

    An image, a device or a file that cannot be read is known by its name alone.
    """
    suffix = os.path.splitext(path)[1].lower()
    by_name = _SUFFIXES.get(suffix)
    if is_image_name(path) or os.path.isdir(path):
        return None
    head = _head(path)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head[_TAR[0] :].startswith(_TAR[1]):
        return "tar"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _DOCUMENT.match(text):
        return "json"
    if by_name in (None, "list") and (header := _HEADER.match(text)):
        return "csv" if header[1] == b"," else "tsv"
    if by_name is None and text.startswith(b'{"'):
        return "jsonl"
    return by_name


def _head(path: str) -> bytes:
    """Return the first bytes of a regular file: those of a pipe could not be read again."""
    try:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read(_HEAD_BYTES)
    except OSError:
        pass
    return b""
