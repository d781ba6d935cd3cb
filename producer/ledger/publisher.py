"""The publisher: it enqueues jobs and uploads images while there is capacity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import redis

from ..connection.connect import redis_errors
from ..contract import ErrorCode, Queue
from ..errors import ConnectionFailed, IdTaken, InvalidInput, JobUnknown, QueueFull
from ..settings import ClientSettings
from . import blobs
from .backpressure import Backpressure, WhenFull
from .ids import account_of, parse_chunk_id
from .isolation import isolate_failures
from .ledger import Ledger
from .quota import QUOTA_STATUSES, quota_exceeded
from .records import EnqueueStatus, JobRecord, NewJob, QueueLimits
from .redis_memory import RedisMemory

#: Maximum messages sent to Redis in one round trip. Larger groups are hardly faster.
PIPELINE_MESSAGES: Final = 128

#: A gap follows a chunk without capacity.
_NO_CAPACITY: Final = (
    EnqueueStatus.FULL,
    EnqueueStatus.BLOBS_FULL,
    EnqueueStatus.GAP,
    *QUOTA_STATUSES,
)

#: Called with the number of items enqueued so far while there is no capacity; may raise.
OnWait = Callable[[int], None]


def ignore_wait(items: int) -> None:
    """Wait for capacity without a time limit."""


class Publisher:
    """The writer of one client. Thread-safe, and safe after a fork.

    Raises ConnectionFailed when Redis is unreachable.
    """

    def __init__(self, client: redis.Redis, ledger: Ledger, settings: ClientSettings) -> None:
        self._redis = client
        self._ledger = ledger
        self._settings = settings
        self._memory = RedisMemory(client)
        stored_bytes = (
            settings.max_blob_mb << 20,
            settings.max_account_bytes,
            settings.max_total_bytes,
        )
        self._limits = {
            Queue.INTERACTIVE: QueueLimits(settings.max_queued_interactive, *stored_bytes),
            Queue.BULK: QueueLimits(settings.max_queued_bulk, *stored_bytes),
        }

    def publish(self, job: NewJob, when_full: WhenFull) -> None:
        """Upload the images of an interactive job, and enqueue it."""
        if job.images:
            account = account_of(job.record.id)
            self.upload(job.images, Queue.INTERACTIVE, when_full, account=account)
        self._enqueue([job], Queue.INTERACTIVE, when_full)

    def publish_many(
        self, jobs: Sequence[NewJob], when_full: WhenFull, on_wait: OnWait = ignore_wait
    ) -> None:
        """Enqueue bulk jobs, at most PIPELINE_MESSAGES of them, in one round trip."""
        self._enqueue(jobs, Queue.BULK, when_full, on_wait)

    def publish_all(self, jobs: Sequence[NewJob]) -> list[Exception | None]:
        """Enqueue interactive jobs in one round trip; return the error of each.

        The jobs have no local images. An invalid job does not affect the others, and no job waits
        for capacity.
        """
        return isolate_failures(self._enqueue_once, jobs)

    def upload(
        self,
        images: Sequence[bytes],
        queue: Queue,
        when_full: WhenFull,
        on_wait: OnWait = ignore_wait,
        *,
        account: str = "",
    ) -> list[str]:
        """Store images of an account once the queue accepts jobs; return their references."""
        references: list[str] = []
        for attempt in self.backpressure(when_full, lambda: on_wait(0)):
            with attempt:
                self._check_capacity(queue)
                references = blobs.upload(
                    self._redis, self._ledger, images, account, self._limits[queue]
                )
        return references

    def backpressure(self, when_full: WhenFull, on_wait: Callable[[], None]) -> Backpressure:
        """Return the attempts at a write to this Redis."""
        watch = self._ledger.worker_watch
        return Backpressure(self._memory, self._settings.redis_url, when_full, on_wait, watch)

    def _enqueue(
        self,
        jobs: Sequence[NewJob],
        queue: Queue,
        when_full: WhenFull,
        on_wait: OnWait = ignore_wait,
    ) -> None:
        # The jobs of a call belong to one account.
        remaining, account = jobs, account_of(jobs[0].record.id)

        def wait() -> None:
            # An upload expires unless its job is enqueued.
            with redis_errors(self._settings.redis_url):
                self._ledger.touch([sha for job in remaining for sha in job.record.blobs], account)
            on_wait(_count_items(jobs) - _count_items(remaining))

        for attempt in self.backpressure(when_full, wait):
            with attempt:
                statuses = self._send(remaining, queue)
                if EnqueueStatus.GAP in statuses[:1]:
                    raise chunks_lost(remaining[0].record.id.rpartition(":")[0])
                for job, status in zip(remaining, statuses, strict=True):
                    if (error := _rejection(job.record, status)) is not None:
                        raise error
                remaining = [
                    job
                    for job, status in zip(remaining, statuses, strict=True)
                    if status in _NO_CAPACITY
                ]
                for status in statuses:
                    if status in _NO_CAPACITY:
                        raise self._queue_full(status, queue, account)

    def _enqueue_once(self, jobs: Sequence[NewJob]) -> list[Exception | None]:
        queue, statuses = Queue.INTERACTIVE, list[EnqueueStatus]()
        for attempt in self.backpressure("raise", lambda: None) if jobs else ():
            with attempt:
                statuses = self._send(jobs, queue)
        return [
            self._queue_full(status, queue, account_of(job.record.id))
            if status in _NO_CAPACITY
            else _rejection(job.record, status)
            for job, status in zip(jobs, statuses, strict=True)
        ]

    def _send(self, jobs: Sequence[NewJob], queue: Queue) -> list[EnqueueStatus]:
        return self._ledger.enqueue(jobs, self._limits[queue], self._settings.replicas)

    def _check_capacity(self, queue: Queue) -> None:
        depth, limits = self._ledger.depth(), self._limits[queue]
        if 0 < limits.max_items <= depth.items[queue]:
            raise self._queue_full(EnqueueStatus.FULL, queue)
        if 0 < limits.max_blob_bytes <= depth.blob_bytes:
            raise self._queue_full(EnqueueStatus.BLOBS_FULL, queue)

    def _queue_full(self, status: EnqueueStatus, queue: Queue, account: str = "") -> QueueFull:
        if status in QUOTA_STATUSES:
            return quota_exceeded(status, account, self._limits[queue])
        if status is EnqueueStatus.BLOBS_FULL:
            return QueueFull(
                f"the images of open jobs use {self._settings.max_blob_mb:,} MiB "
                "(BLIPLINE_MAX_BLOB_MB): try again later"
            )
        limit = self._limits[queue].max_items
        return QueueFull(
            f"the queue {queue} has {limit:,} items (BLIPLINE_MAX_QUEUED_{queue.upper()}): "
            "try again later"
        )


def chunks_lost(batch_id: str) -> ConnectionFailed:
    """Return the error for a batch of which Redis has lost chunks that it had accepted."""
    return ConnectionFailed(
        f"batch {batch_id}: Redis has lost items that it had accepted, in a restart or a failover. "
        f"Submit the same items again with batch_id={batch_id!r}: only the missing ones enter"
    )


def batch_differs(batch_id: str, number: int) -> IdTaken:
    """Return the error for a chunk that differs from the chunk submitted before."""
    return IdTaken(
        f"batch_id={batch_id!r}: chunk {number} was submitted before with other items, or the "
        "batch was closed. Resume it with the same items in the same order, or choose another id"
    )


def unknown_upload(sha: str) -> str:
    """Return the message for an image that the account of a job has not uploaded."""
    return f"image: blob:{sha}: you have not uploaded it, or it has expired: upload it"


def _rejection(record: JobRecord, status: EnqueueStatus) -> Exception | None:
    """Return the error of a job that Redis rejected for a reason other than capacity."""
    chunk = parse_chunk_id(record.id)
    batch_id, number = chunk or (record.id, 0)
    if status is EnqueueStatus.DELETED:
        return JobUnknown(f"batch {batch_id} was deleted during its submission")
    if status is EnqueueStatus.BLOB_UNKNOWN:
        return InvalidInput(unknown_upload(record.blobs[0]), ErrorCode.IMAGE_UNREACHABLE)
    if status is not EnqueueStatus.DIFFERS:
        return None
    if chunk is not None:
        return batch_differs(batch_id, number)
    return IdTaken(
        f"job_id={record.id!r}: another job was submitted with this id: choose another id"
    )


def _count_items(jobs: Sequence[NewJob]) -> int:
    return sum(job.record.items for job in jobs)
