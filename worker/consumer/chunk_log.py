"""The log line of each chunk that a consumer has processed."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from producer.contract import ItemResult, Queue, Task
from producer.ledger.ids import parse_chunk_id
from producer.ledger.records import Claim
from producer.observability.logs import fields

log = logging.getLogger(__name__)


def ids_of(task_id: str) -> dict[str, Any]:
    """Return the fields that identify a chunk: its job, its batch and its number there."""
    batch_id, number = parse_chunk_id(task_id) or (None, None)
    return {"job_id": task_id, "batch_id": batch_id, "chunk": number}


def log_chunk(
    task: Task, queue: Queue, claim: Claim, results: list[ItemResult], seconds: float
) -> None:
    """Log the outcome of a chunk within the context of its ids."""
    codes = Counter(result["error"]["code"] for result in results if "error" in result)
    values = fields(
        task=task.short,
        queue=queue.value,
        items=len(results),
        failed=codes.total(),
        codes=dict(codes),
        seconds=round(seconds, 3),
        queue_wait_s=None if claim.waited_s is None else round(claim.waited_s, 3),
        attempt=claim.attempts if claim.attempts > 1 else None,
    )
    log.info("chunk finished", extra=values)
