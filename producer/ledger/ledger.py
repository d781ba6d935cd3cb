"""The producers' side of the job store: enqueue, cancel, delete and look-up of jobs and batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import redis

from .. import contract
from .aborts import JobAborter
from .ids import chunk_id, parse_chunk_id
from .keys import Keys
from .message import event_channel
from .records import (
    NO_METADATA,
    ChunkResult,
    Depth,
    EnqueueStatus,
    JobMetadata,
    JobRecord,
    JobSnapshot,
    NewJob,
    QueueLimits,
)
from .script import PAGE_JOBS, LedgerScript
from .snapshots import read_depth, read_snapshots
from .statistics import LedgerStatistics, read_statistics
from .worker_watch import WorkerWatch


class Ledger:
    """The jobs and batches of one deployment; thread-safe. Raises redis-py's errors as they are."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys = Keys(),  # noqa: B008 - immutable
        *,
        blob_ttl_s: int = contract.BLOB_TTL_S,
    ) -> None:
        self._redis = client
        self.keys = keys
        self._blob_ttl_s = blob_ttl_s
        self._script = LedgerScript(client, keys.prefix)
        self._aborter = JobAborter(client, keys, blob_ttl_s=blob_ttl_s)
        database = client.connection_pool.connection_kwargs.get("db") or 0
        #: The watch over waits for results and for capacity.
        self.worker_watch = WorkerWatch(lambda: self.depth().workers)
        self._channel = event_channel(keys.prefix, database)

    def enqueue(
        self, jobs: Sequence[NewJob], limits: QueueLimits, replicas: int = 0
    ) -> list[EnqueueStatus]:
        """Enqueue jobs, each in one step, all in one round trip.

        The metadata of single jobs is stored; a batch has its own (see `open_batch`). A call whose
        response was lost can be repeated: a known job is not enqueued twice. Raises
        redis.TimeoutError if fewer than `replicas` acknowledge all writes before the deadline.
        """
        calls = [self._enqueue_arguments(job, limits) for job in jobs]
        answers = self._script.call_many("enqueue", calls, replicas)
        statuses = [EnqueueStatus(answer) for answer in answers]
        for job in jobs:
            if job.span is not None:
                job.span.end()
        self._aborter.cancel_chunks(
            job.record.id
            for job, status in zip(jobs, statuses, strict=True)
            if status is EnqueueStatus.CANCELLED
        )
        return statuses

    def _enqueue_arguments(self, job: NewJob, limits: QueueLimits) -> tuple[Any, ...]:
        record, metadata = job.record, job.metadata
        return (
            record.id,
            record.encode(),
            limits.max_items,
            limits.max_blob_bytes,
            limits.max_account_bytes,
            limits.max_total_bytes,
            record.result_bytes,
            *(parse_chunk_id(record.id) or ("", "")),
            metadata.text,
            metadata.digest,
            metadata.webhook,
            self._channel,
            job.event,
        )

    def requeue(self, record: JobRecord, seen: JobRecord) -> bool:
        """Enqueue an ended job with a new record; return whether it was enqueued.

        False if the job is open, or its generation is no longer that of `seen`.
        """
        arguments = (record.id, record.encode(), seen.generation, record.result_bytes)
        return bool(self._script.call("requeue", *arguments))

    def touch(self, shas: Sequence[str], account: str = "") -> list[bool]:
        """Extend the time to live of uploads until their jobs are enqueued.

        Return for each upload whether Redis stores it, and the account, if any, uploaded it.
        """
        answers = self._script.call_paged("touch", account, contract.UPLOAD_TTL_S, names=shas)
        return [bool(answer) for answer in answers]

    def announce(
        self, account: str, image_bytes: Mapping[str, int], limits: QueueLimits
    ) -> list[bool] | EnqueueStatus:
        """Count images, given their SHA-256, that an account is about to upload.

        Return for each whether Redis stores it already, or the quota that they would exceed.
        """
        quotas = (limits.max_account_bytes, limits.max_total_bytes)
        answers: list[Any] = []
        images = list(image_bytes.items())
        for start in range(0, len(images), PAGE_JOBS):
            arguments = chain.from_iterable(images[start : start + PAGE_JOBS])
            page_answers = self._script.call(
                "announce", account, contract.UPLOAD_TTL_S, *quotas, *arguments
            )
            if isinstance(page_answers[0], bytes):
                return EnqueueStatus(page_answers[0])
            answers += page_answers
        return [bool(answer) for answer in answers]

    # Batches.

    def open_batch(
        self,
        batch_id: str,
        fields: dict[str, Any],
        keep_s: int,
        metadata: JobMetadata = NO_METADATA,
        pass_id: str = "",
        deadline_s: float | None = None,
    ) -> tuple[dict[str, str], float | None]:
        """Create a batch's record if there is none; return the stored one.

        Also return the seconds until the deadline, which `deadline_s` sets at the creation.
        `pass_id` identifies this pass over the items. If the record's `pass` differs, an earlier
        pass created it (see `resume_batch`).
        """
        remaining_s, answer = self._script.call(
            "open_batch",
            batch_id,
            keep_s,
            keep_s + contract.TOMBSTONE_S,
            fields["task"],
            fields["chunk_items"],
            fields["options"],
            metadata.text,
            metadata.webhook,
            pass_id,
            "" if deadline_s is None else deadline_s,
        )
        words = [word.decode() for word in answer]
        record = dict(zip(words[::2], words[1::2], strict=True))
        return record, float(remaining_s) if remaining_s else None

    def resume_batch(self, batch_id: str, pass_id: str) -> None:
        """Start another pass over a batch's items; chunks of earlier passes are known."""
        self._script.call("resume_batch", batch_id, pass_id)

    def seal_batch(self, batch_id: str, expected: int = 0) -> int | None:
        """Mark a batch as completely submitted; return its items, None if it does not exist.

        A batch with fewer than `expected` items stays open.
        """
        total = int(self._script.call("seal_batch", batch_id, expected))
        return None if total < 0 else total

    def interrupt_batch(self, batch_id: str, pass_id: str) -> None:
        """Mark a pass as interrupted: until another pass, the batch consists of its chunks so far.

        A batch without items is deleted.
        Does nothing for a sealed batch, or if another pass has started since.
        """
        self._script.call("interrupt_batch", batch_id, pass_id)

    # Ends.

    def cancel(self, job_or_batch_id: str) -> None:
        """Cancel an open job, or all open chunks of a batch; nothing else changes."""
        self._aborter.cancel(job_or_batch_id)

    def cancel_chunks(self, task_ids: Sequence[str]) -> None:
        """End the open ones of these chunks, while their batch is cancelled."""
        self._aborter.cancel_chunks(task_ids)

    def expire_due(self) -> None:
        """End jobs past their deadline that no consumer runs (see `JobAborter.expire_due`)."""
        self._aborter.expire_due()

    def delete_batch(self, batch_id: str, chunks: int, *, keep_cached: bool = False) -> None:
        """Delete a batch with its chunks and results, also while they are open.

        It may have more than the given number of chunks by now. It has none if redis-py repeats the
        call because the reply was lost.
        """
        ttl_s = contract.RESULT_TTL_S + contract.TOMBSTONE_S
        chunks = max(chunks, int(self._script.call("delete_batch", batch_id, ttl_s)))
        # In reverse: in order, each deletion would dispatch the next chunk to Celery.
        task_ids = [chunk_id(batch_id, number) for number in reversed(range(chunks))]
        self.delete_jobs(task_ids, keep_cached=keep_cached)

    def delete_jobs(self, task_ids: Sequence[str], *, keep_cached: bool = False) -> None:
        """Delete jobs with their records, metadata and results, also while they are open.

        The results that the result cache has for them and their uploads are deleted, too, unless
        `keep_cached`.
        """
        remaining = list(task_ids)
        arguments = (self._blob_ttl_s, contract.RESULT_TTL_S, int(keep_cached))
        while remaining:
            answer = self._script.call_paged("delete_jobs", *arguments, names=remaining)
            remaining = [task_id.decode() for task_id in answer]

    # Look-up.

    def partial_texts(self, task_ids: Sequence[str]) -> list[str | None]:
        """Return the texts of running jobs so far; None if a job does not publish its text."""
        texts: Any = self._redis.mget([self.keys.partial_text(task_id) for task_id in task_ids])
        return [None if text is None else text.decode() for text in texts]

    def snapshot(self, task_id: str) -> JobSnapshot:
        """Return the state of a job."""
        return self.snapshot_all([task_id])[0]

    def snapshot_all(self, task_ids: Sequence[str]) -> list[JobSnapshot]:
        """Return the states of jobs, in one round trip."""
        if not task_ids:
            return []
        self.expire_due()
        snapshots, lost = read_snapshots(self._redis, self.keys, task_ids)
        if lost and self.end_lost(lost):
            return self.snapshot_all(task_ids)
        return snapshots

    def end_lost(self, task_ids: Sequence[str]) -> list[str]:
        """End those of these jobs whose records Redis has evicted or deleted; return their ids."""
        return [task_id.decode() for task_id in self._script.call_paged("end_lost", names=task_ids)]

    def records(self, task_ids: Sequence[str]) -> list[JobRecord | None]:
        """Return the stored records: those of open jobs, and for a limited time of failed ones."""
        texts = self._redis.mget([self.keys.record(task_id) for task_id in task_ids])
        return [
            None if text is None else JobRecord.decode(task_id, text)
            for task_id, text in zip(task_ids, texts, strict=True)
        ]

    def chunk_results(self, task_ids: Sequence[str]) -> list[ChunkResult | None]:
        """Return the stored results of jobs; None for a job without one."""
        texts = self._redis.mget([self.keys.result(task_id) for task_id in task_ids])
        return [None if text is None else ChunkResult.decode(text) for text in texts]

    def metadata(self, task_id: str) -> str | None:
        """Return the text that a job was submitted with; None if there is none, or it expired."""
        text: Any = self._redis.hget(self.keys.metadata(task_id), "note")
        return None if text is None else text.decode()

    def stored_bytes(self, account: str) -> int:
        """Return the bytes that Redis stores for an account."""
        count: Any = self._redis.hget(self.keys.usage, account)
        return int(count or 0)

    def statistics(self) -> LedgerStatistics:
        """Return the statistics of the job store, in a bounded time."""
        return read_statistics(self._redis, self._script)

    def depth(self) -> Depth:
        """Return the open items of each queue, running jobs, images, workers and dead letters."""
        return read_depth(self._redis, self.keys)
