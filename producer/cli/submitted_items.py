"""Items of `blipline batch submit`: local files first, and options that fit the first item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any, BinaryIO

from ..contract import Task
from ..jsonl import read_items
from . import options
from .single_jobs import local_path


def submitted_items(
    file: BinaryIO, task: str, submit_options: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Return the items of a file; raises InvalidInput if the first one cannot have the options.

    The first item is read at once, so that nothing is submitted before an error.
    """
    stream = read_items(file)
    first = list(islice(stream, 1))
    for item in first:
        _check_options(item, task, submit_options)
    return map(_with_local_path, chain(first, stream))


def _check_options(item: Mapping[str, Any], task: str, submit_options: Mapping[str, Any]) -> None:
    """Check the options with an item that has none of its own; an invalid item shows nothing."""
    if "options" in item or "error" in item:
        return
    try:
        named = Task.parse(str(item.get("task") or task))
    except ValueError:
        return
    options.check_generation(submit_options, named, ranks=bool(item.get("answers")))


def _with_local_path(item: dict[str, Any]) -> dict[str, Any]:
    image = item.get("image")
    return item | {"image": local_path(image)} if isinstance(image, str) else item
