"""JSON Lines: a reader of items, or of plain questions, as a stream in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from pydantic_core import from_json

from .contract import ErrorCode, failure
from .errors import InvalidInput

#: Maximum bytes of a line: much longer than any item, much smaller than the memory.
MAX_LINE_BYTES: Final = 1024 * 1024


class TooManyLines(InvalidInput):
    """The stream has more lines than the reader allows."""


def read_items(stream: BinaryIO, max_lines: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield an item for each line that is not blank.

    An invalid line becomes an item with an error that names the line; the other lines are not
    affected. The default `custom_id` is the line number, counted from 1. Raise TooManyLines after
    `max_lines` lines, blank lines included.
    """
    for number, line in enumerate(_lines(stream), start=1):
        if max_lines is not None and number > max_lines:
            raise TooManyLines(f"there are more than {max_lines:,} lines")
        try:
            if line.strip():
                yield {"custom_id": str(number)} | _parse(line)
        except InvalidInput as error:
            yield {"custom_id": str(number), **failure(error.code, f"line {number}: {error}")}


def read_questions(stream: BinaryIO) -> Iterator[str]:
    """Yield a question for each line that is not blank; the worker rejects invalid UTF-8."""
    for line in _lines(stream):
        question = line.decode("utf-8-sig", "surrogateescape").strip()
        if question:
            yield question


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield lines; one that is too long is truncated to one byte above the limit."""
    try:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            rest = line
            while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
                rest = stream.readline(MAX_LINE_BYTES + 1)
            yield line
    except OSError as error:
        raise InvalidInput(f"{stream.name}: cannot be read: {error.strerror}") from None


def _parse(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise InvalidInput(f"longer than {MAX_LINE_BYTES:,} bytes", ErrorCode.OPTION_INVALID)
    try:
        # This parser is four times as fast as the one that describes errors.
        item = from_json(line)
    except ValueError:
        item = _parse_with_errors(line)
    if not isinstance(item, dict):
        raise InvalidInput('not an object: {"image": "…", "question": "…"} is needed')
    return {name: value for name, value in item.items() if value is not None}


def _parse_with_errors(line: bytes) -> Any:
    try:
        # Some editors write a byte-order mark.
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidInput("not valid UTF-8") from None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"not JSON: {error.msg} (column {error.colno})") from None
    except (ValueError, RecursionError):
        raise InvalidInput(
            "not JSON within limits: a number is too long or the nesting too deep"
        ) from None
