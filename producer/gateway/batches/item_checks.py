"""Checks of the items of an upload: the tasks and the quota of a key, and unique `custom_id`s.

An item that fails a check becomes an item with an error, in its position.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from ...contract import ErrorCode, Task, failure
from ..access.key_policy import KeyPolicy
from ..access.permissions import check_task
from ..access.quota_meter import QuotaMeter
from ..http.problems import Problem


def checked_items(
    items: Iterator[dict[str, Any]], default: Task, policy: KeyPolicy, *, unique: bool
) -> Iterator[dict[str, Any]]:
    """Return the items; `default` is the task of those that name none."""
    if policy.tasks is not None:
        items = (_allowed(item, default, policy) for item in items)
    return _unique(items) if unique else items


def counted_items(
    items: Iterator[dict[str, Any]], meter: QuotaMeter, known: int
) -> Iterator[dict[str, Any]]:
    """Count the items after the `known` first ones, which an earlier upload has submitted.

    Raises DailyQuotaExceeded and ConnectionFailed.
    """
    for index, item in enumerate(items):
        if index >= known:
            meter.count(1)
        yield item


def _allowed(item: dict[str, Any], default: Task, policy: KeyPolicy) -> dict[str, Any]:
    try:
        task = default if item.get("task") is None else Task.parse(item["task"])
        check_task(policy, task)
    except Problem as problem:
        return _failed(item, str(problem.detail))
    except (TypeError, ValueError):
        # The worker rejects an unknown task.
        return item
    return item


def _unique(items: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Replace items whose `custom_id` an earlier one has."""
    # SQLite writes a temporary database to the disk once it exceeds its cache of 2 MB.
    with closing(sqlite3.connect("", check_same_thread=False)) as ids:
        ids.execute("CREATE TABLE ids (custom_id BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID")
        for index, item in enumerate(items):
            custom_id = item.get("custom_id")
            yield item if not isinstance(custom_id, str) else _first(ids, index, custom_id, item)


def _first(
    ids: sqlite3.Connection, index: int, custom_id: str, item: dict[str, Any]
) -> dict[str, Any]:
    """Return an item, or an error if an earlier one has its id."""
    name = custom_id.encode("utf-8", "surrogatepass")
    added = ids.execute("INSERT OR IGNORE INTO ids VALUES (?, ?)", (name, index))
    if added.rowcount:
        return item
    (earlier,) = ids.execute("SELECT number FROM ids WHERE custom_id = ?", (name,)).fetchone()
    message = f"custom_id: {custom_id!r:.100} occurs twice; the item with index {earlier} has it"
    return _failed(item, message)


def _failed(item: dict[str, Any], message: str) -> dict[str, Any]:
    """Return the error of an item; one that has an error already keeps it."""
    if item.get("error") is not None:
        return item
    identity = {"custom_id": item["custom_id"]} if "custom_id" in item else {}
    return {**identity, **failure(ErrorCode.OPTION_INVALID, message)}
