"""Aborts: jobs that end without a consumer's result: cancelled, revoked, or past their deadline."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

import redis

from .. import contract
from ..contract import ErrorCode, ItemResult
from .ids import chunk_id
from .keys import Keys
from .records import ChunkResult, JobRecord
from .script import LedgerScript

#: Jobs whose payloads are read in one round trip: each may have 1,024 items.
PAGE_JOBS: Final = 32
#: Seconds between two searches for jobs past their deadline, in one process.
DUE_PAUSE_S: Final = 1.0

_CANCELLED: Final = contract.failure(ErrorCode.CANCELLED, "the job was cancelled")
_BATCH_CANCELLED: Final = contract.failure(ErrorCode.CANCELLED, "the batch was cancelled")
_LATE: Final = contract.failure(
    ErrorCode.DEADLINE_EXCEEDED, "no worker returned a result before the deadline"
)


class JobAborter:
    """The aborts of one deployment; thread-safe. Raises redis-py's errors as they are.

    A job is aborted in one step, and only the run that was read: its items get the same error,
    with their custom ids, and the earlier results of a retried job are kept.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        *,
        blob_ttl_s: int = contract.BLOB_TTL_S,
        lease_s: float = contract.LEASE_S,
    ) -> None:
        self._redis = client
        self._keys = keys
        self._blob_ttl_s = blob_ttl_s
        self._lease_s = lease_s
        self._script = LedgerScript(client, keys.prefix)
        #: Time of the next search for due jobs, on the monotonic clock.
        self._due_at = 0.0

    def cancel(self, job_or_batch_id: str) -> None:
        """Cancel an open job or all open chunks of a batch; nothing else changes."""
        chunks = int(self._script.call("cancel", job_or_batch_id, contract.RESULT_TTL_S))
        if chunks > 0:
            # In reverse: in order, each end would dispatch the next chunk to Celery.
            numbers = reversed(range(chunks))
            self.cancel_chunks([chunk_id(job_or_batch_id, number) for number in numbers])
        elif chunks == 0:
            self._abort_all([job_or_batch_id], "cancelled", _CANCELLED)

    def cancel_chunks(self, task_ids: Iterable[str]) -> None:
        """End the open ones of these chunks, while their batch is cancelled."""
        ids = iter(task_ids)
        while page := list(islice(ids, PAGE_JOBS)):
            self._abort_all(page, "batch", _BATCH_CANCELLED)

    def revoke(self, task_id: str, revoked: str) -> None:
        """Revoke a task as Celery does; cancel it if it is an open job.

        `revoked` is Celery's own result, for a message of another program.
        """
        if self._script.call("revoke", task_id, revoked, contract.RESULT_TTL_S):
            self._abort_all([task_id], "cancelled", _CANCELLED)

    def expire_due(self) -> None:
        """End jobs past their deadline, unless a living consumer runs them.

        Does nothing within DUE_PAUSE_S after a search that found few of them, so any reader may
        call it at each look-up.
        """
        now = time.monotonic()
        if now < self._due_at:
            return
        self._due_at = now + DUE_PAUSE_S
        due = [task_id.decode() for task_id in self._script.call("due", PAGE_JOBS, self._lease_s)]
        if len(due) == PAGE_JOBS:
            self._due_at = now
        # In reverse, as in `cancel`: in order, each end would dispatch the next due job.
        self._abort_all(due[::-1], "deadline", _LATE)

    def _abort_all(self, task_ids: Sequence[str], cause: str, error: ItemResult) -> None:
        if not task_ids:
            return
        # Most records of a batch that has ended in part are those of failed chunks.
        times: Any = self._redis.zmscore(self._keys.open, list(task_ids))
        open_ids = [task_id for task_id, at in zip(task_ids, times, strict=True) if at is not None]
        if not open_ids:
            return
        texts = self._redis.mget([self._keys.record(task_id) for task_id in open_ids])
        calls = [
            self._arguments(JobRecord.decode(task_id, text), cause, error)
            for task_id, text in zip(open_ids, texts, strict=True)
            if text is not None
        ]
        self._script.call_many("abort", calls)

    def _arguments(self, record: JobRecord, cause: str, error: ItemResult) -> tuple[Any, ...]:
        items: list[Any] = json.loads(record.payload)["items"]
        earlier = [earlier_result(item) for item in items]
        results = with_custom_ids(items, [result or error for result in earlier])
        return (
            record.id,
            record.generation,
            cause,
            ChunkResult(results).encode(record.id),
            contract.RESULT_TTL_S,
            contract.RESULT_TTL_S + contract.TOMBSTONE_S,
            sum("error" in result for result in results),
            self._blob_ttl_s,
        )


def earlier_result(item: Any) -> ItemResult | None:
    """Return the result that a retried item of a job record already has."""
    result = item.get("result") if isinstance(item, dict) else None
    return result if isinstance(result, dict) else None  # type: ignore[return-value]


def with_custom_ids(items: Sequence[Any], results: Sequence[ItemResult]) -> list[ItemResult]:
    """Return the results with the custom ids of their items."""
    return [
        {"custom_id": item["custom_id"][: contract.MAX_CUSTOM_ID_CHARS], **result}
        if isinstance(item, dict) and isinstance(item.get("custom_id"), str)
        else result
        for item, result in zip(items, results, strict=True)
    ]
