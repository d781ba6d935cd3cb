"""Asking again what has failed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from ..contract import Queue, Task
from .ledger import Ledger
from .publisher import Chunk
from .records import ChunkResult, JobRecord

#: Jobs whose rows and results are read in one round trip.
PAGE_JOBS: Final = 128

#: Which results are not good enough: one item's, as the contract has it.
Unwanted = Callable[[dict[str, Any]], bool]


def ask_again(ledger: Ledger, task_ids: Iterable[str], unwanted: Unwanted) -> int:
    """Queue jobs anew for those of their items whose results are unwanted; returns their number.

    The other items keep what they have. A job of which nothing is kept any more stays as it is.
    """
    ids, asked = iter(task_ids), 0
    while page := list(islice(ids, PAGE_JOBS)):
        for row, outcome in zip(ledger.records(page), ledger.chunk_results(page), strict=True):
            if row is not None and outcome is not None:
                asked += _ask_again(ledger, row, outcome, unwanted)
    return asked


def _ask_again(ledger: Ledger, row: JobRecord, outcome: ChunkResult, unwanted: Unwanted) -> int:
    asked = json.loads(row.payload)
    results = [outcome.result(place) for place in range(len(asked["items"]))]
    again = [unwanted(result) for result in results]
    if not any(again):
        return 0
    asked["items"] = [
        _only_asked(item) if wanted else {**_only_asked(item), "result": result}
        for item, result, wanted in zip(asked["items"], results, again, strict=True)
    ]
    # It is late already, and somebody wants it all the same.
    asked["options"].pop("deadline", None)
    chunk = Chunk(row.id, Task.parse(asked["task"]), asked["items"], asked["options"])
    fresh = chunk.row(Queue(row.queue), row.submitter)
    return sum(again) if ledger.requeue(fresh, row) else 0


def _only_asked(item: Any) -> Any:
    """An item without what an earlier time left on it."""
    if not isinstance(item, dict):
        return item
    return {name: value for name, value in item.items() if name != "result"}
