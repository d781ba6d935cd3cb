"""Items of `blipline batch submit`: local files first, and options that fit each item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain, islice
from typing import Any, BinaryIO

from ..contract import Task
from ..errors import InvalidInput
from ..jsonl import numbered_items, reject
from . import options
from .single_jobs import local_path


class OptionCheck:
    """A check of the options of a command with each item that has none of its own."""

    def __init__(self, task: str, submit_options: Mapping[str, Any]) -> None:
        """`task` is that of items which do not name one."""
        self._task = task
        self._options = submit_options
        #: Only a few kinds of items differ in their options.
        self._error_of_kind = lru_cache(len(Task) * 2)(self._error_of)

    def error(self, item: Mapping[str, Any]) -> str | None:
        """Return the reason that an item cannot have the options; an invalid item shows nothing."""
        if "options" in item or "error" in item:
            return None
        try:
            task = Task.parse(str(item.get("task") or self._task))
        except ValueError:
            return None
        return self._error_of_kind(task, bool(item.get("answers")))

    def _error_of(self, task: Task, ranks: bool) -> str | None:
        try:
            options.check_generation(self._options, task, ranks=ranks)
        except InvalidInput as error:
            return str(error)
        return None


def submitted_items(
    file: BinaryIO, task: str, submit_options: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Return the items of a file; raises InvalidInput if the first one cannot have the options.

    The first item is read at once, so that nothing is submitted before an error. A later item that
    cannot have them becomes an error that names its line, as an invalid line does.
    """
    check = OptionCheck(task, submit_options)
    lines = numbered_items(file)
    first = list(islice(lines, 1))
    for number, item in first:
        if (message := check.error(item)) is not None:
            raise InvalidInput(f"line {number}: {message}")
    return _checked(chain(first, lines), check)


def _checked(
    lines: Iterator[tuple[int, dict[str, Any]]], check: OptionCheck
) -> Iterator[dict[str, Any]]:
    for number, item in lines:
        message = check.error(item)
        yield _with_local_path(item) if message is None else reject(number, item, message)


def _with_local_path(item: dict[str, Any]) -> dict[str, Any]:
    image = item.get("image")
    return item | {"image": local_path(image)} if isinstance(image, str) else item
