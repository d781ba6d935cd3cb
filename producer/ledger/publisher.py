"""Publishing chunks: into the ledger, which queues them, and only while there is room."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import redis

from .. import contract
from ..connection.connect import is_out_of_memory, redis_errors
from ..contract import Queue, Task
from ..errors import IdTaken, JobUnknown, QueueFull
from ..net.redact import redact_url
from ..polling import PollSchedule
from ..settings import ClientSettings
from . import blobs
from .ids import parse_chunk_id
from .isolation import isolate_failures
from .ledger import Ledger
from .message import sent_event, task_message
from .records import NO_METADATA, EnqueueStatus, JobMetadata, JobRecord, NewJob, QueueLimits
from .redis_memory import Memory

#: Messages sent to Redis in one round trip. Larger groups hardly publish faster.
PIPELINE_MESSAGES: Final = 128
#: Seconds between two tries at a queue that is full.
LONGEST_PAUSE_S: Final = 0.5
#: Whose turn a job takes that names no submitter.
ANYONE: Final = "anyone"

_NO_ROOM: Final = (EnqueueStatus.FULL, EnqueueStatus.BLOBS_FULL)

#: What to do while a queue is full.
WhenFull = Literal["wait", "raise"]
#: Hears now and then, while there is no room, how many of the items are in by now; may raise.
OnWait = Callable[[int], None]


def pass_on(items: int) -> None:
    """Wait for room as long as it takes."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One message: what is asked of 1 to N items."""

    id: str
    task: Task
    items: list[dict[str, Any]]
    options: dict[str, Any]

    @property
    def summary(self) -> str:
        """What a person sees in Flower."""
        first = self.items[0]
        texts = first.get("texts")
        asked = [first.get(name) for name in ("question", "prompt", "text")]
        asked += texts if isinstance(texts, list) else []
        # A batch may hold anything; what is wrong with it the worker says.
        about = next((one for one in asked if isinstance(one, str) and one), "")
        # A hash means nothing to a person, and a long URL fills the column.
        image = redact_url(str(first.get("image", "")))
        image = image if len(image) <= 72 else f"{image[:69]}…"
        more = f" (+{len(self.items) - 1} more)" if len(self.items) > 1 else ""
        return f"{image} {about[:120]!r}{more}".lstrip() if about else f"{image}{more}"

    def row(self, queue: Queue, submitter: str) -> JobRecord:
        """This chunk as the ledger holds it."""
        asked = {"task": self.task.short, "items": self.items, "options": self.options}
        images = dict.fromkeys(str(item.get("image", "")) for item in self.items)
        return JobRecord(
            self.id,
            queue.value,
            submitter,
            len(self.items),
            tuple(contract.blob_hash(image) for image in images if contract.is_blob(image)),
            task_message(self.id, self.task, queue, self.summary),
            json.dumps(asked, separators=(",", ":")),
        )


class Publisher:
    """Thread-safe, and safe after a fork. Raises ConnectionFailed when Redis is away."""

    def __init__(self, client: redis.Redis, ledger: Ledger, settings: ClientSettings) -> None:
        self._redis = client
        self._ledger = ledger
        self._settings = settings
        self._memory = Memory(client)
        max_blob_bytes = settings.max_blob_mb << 20
        self._bounds = {
            Queue.INTERACTIVE: QueueLimits(settings.max_queued_interactive, max_blob_bytes),
            Queue.BULK: QueueLimits(settings.max_queued_bulk, max_blob_bytes),
        }

    def posting(self, chunk: Chunk, submitter: str = "", note: JobMetadata = NO_METADATA) -> NewJob:
        """An interactive chunk as it is entered; Flower shows it from then on."""
        row = chunk.row(Queue.INTERACTIVE, submitter or self._settings.submitter or ANYONE)
        event = sent_event(chunk.id, chunk.task, Queue.INTERACTIVE, chunk.summary)
        return NewJob(row, note, event)

    def publish(
        self,
        chunk: Chunk,
        when_full: WhenFull,
        submitter: str = "",
        note: JobMetadata = NO_METADATA,
    ) -> None:
        """Publish one interactive chunk."""
        self._enter([self.posting(chunk, submitter, note)], Queue.INTERACTIVE, when_full)

    def publish_all(self, postings: Sequence[NewJob]) -> list[Exception | None]:
        """Publish interactive chunks in one round trip; what each raises, without a wait for room.

        What is wrong with one harms no other.
        """
        return isolate_failures(self._refusals, postings)

    def _refusals(self, postings: Sequence[NewJob]) -> list[Exception | None]:
        queue, entries = Queue.INTERACTIVE, list[EnqueueStatus]()

        def enter() -> None:
            bounds, replicas = self._bounds[queue], self._settings.replicas
            entries.extend(self._ledger.enqueue(postings, bounds, replicas))

        if postings and (problem := self._no_room(enter)) is not None:
            raise _full(problem)
        return [
            _full(self._why(entry, queue)) if entry in _NO_ROOM else _wrong(posting.record, entry)
            for posting, entry in zip(postings, entries, strict=True)
        ]

    def publish_many(
        self,
        chunks: Sequence[Chunk],
        when_full: WhenFull,
        on_wait: OnWait = pass_on,
        submitter: str = "",
    ) -> None:
        """Publish chunks of one batch in one round trip, PIPELINE_MESSAGES of them at most.

        A stream of bulk chunks is not announced one by one: Flower shows each as it is received.
        """
        batch_id, _ = parse_chunk_id(chunks[0].id) or (ANYONE, 0)
        submitter = submitter or self._settings.submitter or batch_id
        postings = [NewJob(one.row(Queue.BULK, submitter)) for one in chunks]
        self._enter(postings, Queue.BULK, when_full, on_wait)

    def upload(
        self,
        images: Sequence[bytes],
        queue: Queue,
        when_full: WhenFull,
        on_wait: OnWait = pass_on,
    ) -> list[str]:
        """Store images; returns their references, in order. Not while their jobs find no room."""
        references: list[str] = []

        def store() -> str | None:
            problem = self._full(queue)
            if problem is None:
                references.extend(blobs.upload(self._redis, self._ledger, images))
            return problem

        self.with_room(store, when_full, lambda: on_wait(0))
        return references

    def _full(self, queue: Queue) -> str | None:
        depth, bounds = self._ledger.depth(), self._bounds[queue]
        if 0 < bounds.max_items <= depth.items[queue]:
            return self._why(EnqueueStatus.FULL, queue)
        if 0 < bounds.max_blob_bytes <= depth.blob_bytes:
            return self._why(EnqueueStatus.BLOBS_FULL, queue)
        return None

    def _enter(
        self,
        postings: list[NewJob],
        queue: Queue,
        when_full: WhenFull,
        on_wait: OnWait = pass_on,
    ) -> None:
        left = postings

        def enter() -> str | None:
            nonlocal left
            left, problem = self._try(left, queue)
            return problem

        def wait() -> None:
            # Uploads wait for their jobs for a time only.
            with redis_errors(self._settings.redis_url):
                self._ledger.touch([sha for one in left for sha in one.record.blobs])
            on_wait(
                sum(one.record.items for one in postings) - sum(one.record.items for one in left)
            )

        self.with_room(enter, when_full, wait)

    def with_room(
        self, act: Callable[[], str | None], when_full: WhenFull, on_wait: Callable[[], None]
    ) -> None:
        """Act until it finds room; `act` says why there is none.

        `on_wait` is called now and then meanwhile, and may raise. Raises QueueFull as asked.
        """
        patience = PollSchedule(None, LONGEST_PAUSE_S)
        while (problem := self._no_room(act)) is not None:
            if when_full == "raise":
                raise _full(problem)
            on_wait()
            patience.pause()

    def _no_room(self, act: Callable[[], str | None]) -> str | None:
        with redis_errors(self._settings.redis_url):
            return self._memory.problem() or _when_room(act)

    def _try(self, postings: list[NewJob], queue: Queue) -> tuple[list[NewJob], str | None]:
        """Those that there is no room for, and why."""
        answers = self._ledger.enqueue(postings, self._bounds[queue], self._settings.replicas)
        for posting, entry in zip(postings, answers, strict=True):
            if (wrong := _wrong(posting.record, entry)) is not None:
                raise wrong
        left = [one for one, entry in zip(postings, answers, strict=True) if entry in _NO_ROOM]
        why = next((entry for entry in answers if entry in _NO_ROOM), None)
        return left, None if why is None else self._why(why, queue)

    def _why(self, entry: EnqueueStatus, queue: Queue) -> str:
        if entry is EnqueueStatus.BLOBS_FULL:
            return (
                f"the images that open jobs name have {self._settings.max_blob_mb:,} MiB "
                "(BLIPLINE_MAX_BLOB_MB)"
            )
        bound = self._bounds[queue].max_items
        return f"the queue {queue} holds {bound:,} items (BLIPLINE_MAX_QUEUED_{queue.upper()})"


def _when_room(act: Callable[[], str | None]) -> str | None:
    try:
        return act()
    except redis.ResponseError as error:
        if is_out_of_memory(error):
            return "Redis is full (its `maxmemory`)"
        raise


def differs(batch_id: str, number: int) -> IdTaken:
    """For a batch that is another one."""
    return IdTaken(
        f"batch_id={batch_id!r}: chunk {number} was submitted before with other items, or the "
        "batch was closed. The same items in the same order go on with it; others need another id"
    )


def _wrong(row: JobRecord, entry: EnqueueStatus) -> Exception | None:
    """Why a job is not in, where that has nothing to do with room."""
    chunk = parse_chunk_id(row.id)
    batch_id, number = chunk or (row.id, 0)
    if entry is EnqueueStatus.DELETED:
        return JobUnknown(f"batch {batch_id} was deleted while it was being submitted")
    if entry is not EnqueueStatus.DIFFERS:
        return None
    if chunk is not None:
        return differs(batch_id, number)
    return IdTaken(f"job_id={row.id!r}: another job was submitted with this id: choose another one")


def _full(problem: str) -> QueueFull:
    return QueueFull(f"{problem}: try again later")
