"""JSON Lines: a reader of items, or of plain questions, as a stream in bounded memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from pydantic_core import from_json

from .contract import ErrorCode, failure
from .errors import InvalidInput
from .validation import unique_names

_NUMBER: Final = re.compile("[1-9][0-9]{0,15}")
#: Maximum bytes of a line: much longer than any item, much smaller than the memory.
MAX_LINE_BYTES: Final = 1024 * 1024


class TooManyLines(InvalidInput):
    """The stream has more lines than the reader allows."""


def read_items(stream: BinaryIO, max_lines: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the items of `numbered_items`."""
    for _, item in numbered_items(stream, max_lines):
        yield item


def numbered_items(
    stream: BinaryIO, max_lines: int | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each line that is not blank, with its item.

    An invalid line becomes an item with an error that names the line; the other lines are not
    affected. In a file without ids of its own, line numbers are the `custom_id`s, counted from 1
    (see `_LineIds`). Raise TooManyLines after `max_lines` lines, blank lines included.
    """
    ids = _LineIds()
    for number, line in enumerate(_lines(stream), start=1):
        if max_lines is not None and number > max_lines:
            raise TooManyLines(f"there are more than {max_lines:,} lines")
        if not line.strip():
            continue
        try:
            item = ids.identify(number, _parse(line))
        except InvalidInput as error:
            yield number, ids.of_invalid(number) | failure(error.code, f"line {number}: {error}")
        else:
            yield number, reject(number, item, "error: no such name") if "error" in item else item


def read_questions(stream: BinaryIO) -> Iterator[str]:
    """Yield a question for each line that is not blank; the worker rejects invalid UTF-8."""
    for line in _lines(stream):
        question = line.decode("utf-8-sig", "surrogateescape").strip()
        if question:
            yield question


class _LineIds:
    """The `custom_id`s of lines; no line number equals the id of another line.

    Line numbers are ids up to the first line with an id of its own; later lines without one have
    none, as have invalid lines before the first valid one. An id that equals the number of an
    earlier line is invalid.
    """

    def __init__(self) -> None:
        #: True while line numbers are ids; None before the first valid line.
        self._numbered: bool | None = None
        #: Number of the last line whose number is its id.
        self._last_number = 0

    def identify(self, number: int, item: dict[str, Any]) -> dict[str, Any]:
        """Return a valid line's item with its id; raises InvalidInput."""
        if (custom_id := item.get("custom_id")) is not None:
            self._check(str(custom_id))
            self._numbered = False
            return item
        if self._numbered is None:
            self._numbered = True
        return self.of_invalid(number) | item

    def of_invalid(self, number: int) -> dict[str, Any]:
        """Return the id of a line without a readable one."""
        if not self._numbered:
            return {}
        self._last_number = number
        return {"custom_id": str(number)}

    def _check(self, custom_id: str) -> None:
        if not self._last_number:
            return
        number = int(custom_id) if _NUMBER.fullmatch(custom_id) else 0
        if 0 < number <= self._last_number:
            raise InvalidInput(
                f"custom_id: {custom_id!r} is the number of an earlier line, which has no "
                "custom_id: set it in every line, or in none"
            )


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
        item = _parse_strictly(line)
    if not isinstance(item, dict):
        raise InvalidInput('not an object: {"image": "…", "question": "…"} is needed')
    if _may_repeat_names(line, item):
        item = _parse_strictly(line)
    fields: dict[str, Any] = item
    if None in fields.values():
        return {name: value for name, value in fields.items() if value is not None}
    return fields


def reject(number: int, item: dict[str, Any], message: str) -> dict[str, Any]:
    """Return the error of a line, such as one that sets `error`, which only a producer may set."""
    custom_id = {name: value for name, value in item.items() if name == "custom_id"}
    return custom_id | failure(ErrorCode.OPTION_INVALID, f"line {number}: {message}")


def _may_repeat_names(line: bytes, item: dict[str, Any]) -> bool:
    """Return whether an object of this line may contain a name twice; False is certain."""
    strings = len(item) + [type(value) for value in item.values()].count(str)
    # A name that the parser dropped has two more quotes, as have nested strings and names.
    return line.count(b'"') > 2 * strings


def _parse_strictly(line: bytes) -> Any:
    """Parse a line with descriptions of its errors, and reject names that occur twice."""
    try:
        # Some editors write a byte-order mark.
        return json.loads(line.decode("utf-8-sig"), object_pairs_hook=unique_names)
    except InvalidInput:
        raise
    except UnicodeDecodeError:
        return _parse_path(line)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"not JSON: {error.msg} (column {error.colno})") from None
    except (ValueError, RecursionError):
        raise InvalidInput(
            "not JSON within limits: a number is too long or the nesting too deep"
        ) from None


def _parse_path(line: bytes) -> Any:
    """Parse a line whose image path is not valid UTF-8, as paths may be; other text must be."""
    try:
        text = line.decode("utf-8-sig", "surrogateescape")
        item = json.loads(text, object_pairs_hook=unique_names)
        fields = {name: value for name, value in item.items() if name != "image"}
        json.dumps(fields, ensure_ascii=False).encode()
    except InvalidInput:
        raise
    except (ValueError, RecursionError, AttributeError):
        raise InvalidInput(
            "not valid UTF-8 (only the path of an image may be in another encoding)"
        ) from None
    return item
