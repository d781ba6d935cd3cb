"""Requeue: ended jobs run again for the items that failed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from ..contract import ChunkPayload, ItemResult, Queue, Task
from .chunk import Chunk
from .ledger import Ledger
from .records import ChunkResult, JobRecord

#: Jobs whose records and results are read in one round trip.
PAGE_JOBS: Final = 128

#: Returns whether the item of this result is to be retried.
ShouldRetry = Callable[[ItemResult], bool]


def retry_items(ledger: Ledger, task_ids: Iterable[str], should_retry: ShouldRetry) -> int:
    """Requeue ended jobs for the items that are to be retried; return the number of these items.

    The other items keep their results. A job without a stored record or result does not change.
    """
    ids, count = iter(task_ids), 0
    while page := list(islice(ids, PAGE_JOBS)):
        for record, result in zip(ledger.records(page), ledger.chunk_results(page), strict=True):
            if record is not None and result is not None:
                count += _retry(ledger, record, result, should_retry)
    return count


def _retry(
    ledger: Ledger, record: JobRecord, result: ChunkResult, should_retry: ShouldRetry
) -> int:
    payload: ChunkPayload = json.loads(record.payload)
    results = [result.result(index) for index in range(len(payload["items"]))]
    retried = [should_retry(item_result) for item_result in results]
    if not any(retried):
        return 0
    items: list[Any] = [
        _without_result(item) if retry else {**_without_result(item), "result": item_result}
        for item, item_result, retry in zip(payload["items"], results, retried, strict=True)
    ]
    # The deadline of the first run has passed already.
    options = {name: value for name, value in payload["options"].items() if name != "deadline"}
    chunk = Chunk(record.id, Task.parse(payload["task"]), items, options)
    new_record = chunk.record(Queue(record.queue), record.submitter)
    return sum(retried) if ledger.requeue(new_record, record) else 0


def _without_result(item: Any) -> Any:
    """Return an item without the result of an earlier retry."""
    if not isinstance(item, dict):
        return item
    return {name: value for name, value in item.items() if name != "result"}
