"""JSON documents with a row for each image: lists of objects, and kohya's metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic_core import from_json

from ..errors import InvalidInput

#: A document that is no row of JSON lines.
_SEVERAL_LINES: Final = re.compile(rb"\s*(\[|\{\s*\n)")
_FORMS: Final = (
    "Known forms are JSON lines, JSON, CSV, TSV, Parquet, tar archives, and folders with caption "
    "files"
)


def document_rows(path: str) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a JSON document, or of JSON lines in place of it, each with its position.

    Raises InvalidInput if the file cannot be read, or is not JSON.
    """
    value = read_document(path)
    if isinstance(value, list) or is_metadata(value):
        for number, row in enumerate(_rows_of(value), start=1):
            yield f"entry {number}", row
    else:
        with open(path, "rb") as file:
            yield from json_lines(path, file)


def read_document(path: str) -> Any:
    """Return the value of a JSON document; None for JSON lines; raises InvalidInput."""
    try:
        with open(path, "rb") as file:
            data = file.read().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return _parse(data)
    except ValueError as error:
        if _SEVERAL_LINES.match(data):
            raise InvalidInput(f"{path}: not JSON: {error}") from None
        return None


def json_lines(path: str, lines: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    """Yield the values of JSON lines that are not blank; raises InvalidInput."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield f"line {number}", _parse(line.removeprefix(b"\xef\xbb\xbf"))
            except ValueError as error:
                forms = f". {_FORMS}" if number == 1 else ""
                message = f"{path}: line {number}: not JSON: {error}{forms}"
                raise InvalidInput(message) from None


def _parse(data: bytes) -> Any:
    """Return the value of a JSON document; raises ValueError."""
    try:
        return from_json(data)
    except ValueError:
        # A name that is not UTF-8 has lone surrogates, which the faster parser refuses.
        if b"\\ud" not in data.lower():
            raise
        try:
            return json.loads(data)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def is_metadata(value: Any) -> bool:
    """Return whether a document is kohya's metadata: objects by the paths of their images."""
    return isinstance(value, dict) and all(isinstance(row, dict) for row in value.values())


def _rows_of(value: list[Any] | dict[str, Any]) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
        return
    for name, fields in value.items():
        yield {"file_name": name, **_columns(fields)}


def _columns(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an image; kohya's captions, which are a line each, as texts."""
    columns = dict(fields)
    if isinstance(columns.get("caption"), str):
        columns["text"] = columns.pop("caption")
        lines = columns["text"].split("\n")
        columns |= {"texts": lines} if len(lines) > 1 else {}
    return columns
