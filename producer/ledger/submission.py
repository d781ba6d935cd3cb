"""The submission of a batch: it divides a stream of items into chunks, in bounded memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, cast

import redis

from ..connection.connect import redis_errors
from ..connection.outage import outage_limit
from ..contract import ItemPayload, Queue, Task, blob_hash, is_blob
from ..errors import IdTaken, JobUnknown
from . import blobs
from .backpressure import WhenFull
from .batch_items import ItemSource, prepare, reject_unknown
from .chunk import DIGEST_CHARS, Chunk
from .ids import account_of, chunk_id, new_id
from .ledger import Ledger
from .publisher import (
    PIPELINE_MESSAGES,
    OnWait,
    Publisher,
    batch_differs,
    chunks_lost,
    ignore_wait,
)
from .records import NO_METADATA, JobMetadata, NewJob

#: Maximum seconds that a chunk waits for others to be published with it. A full group of URLs is
#: ready in about this time; local images, which are read and uploaded, take longer.
PUBLISH_AFTER_S: Final = 0.02


class SubmissionInterrupted(Exception):
    """Raised by an iterator of items: it reaches the caller once the whole chunks are published."""


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """The options of a whole batch."""

    batch_id: str
    task: Task
    options: dict[str, Any]
    chunk_items: int
    #: Seconds that Redis keeps results.
    keep_s: int
    when_full: WhenFull
    #: Name of the submitter queue.
    submitter: str
    metadata: JobMetadata = NO_METADATA
    #: Seconds from the first submission to the deadline of the whole batch.
    deadline_s: float | None = None


class Submission:
    """One pass over the items of a batch; a second pass resumes where the first was interrupted."""

    def __init__(
        self,
        options: BatchOptions,
        client: redis.Redis,
        ledger: Ledger,
        publisher: Publisher,
        url: str,
    ) -> None:
        self._options = options
        self._redis = client
        self._ledger = ledger
        self._publisher = publisher
        self._url = url
        self._on_wait: OnWait = ignore_wait
        #: Distinguishes this pass from other passes over the same batch.
        self._pass_id = new_id()
        #: Number of items submitted so far.
        self._total = 0
        #: Bitmap of the chunks that had ended when this pass started, and digests of all chunks.
        self._done = self._digests = b""
        #: The batch's deadline on the monotonic clock of this host; None: none, or not known here.
        self._deadline: float | None = None

    def run(self, items: Iterable[ItemSource], on_submitted: Callable[[int], None]) -> None:
        """Submit all items, and call `on_submitted` with the number of items submitted so far.

        The calls continue during backpressure; the callback may raise to end the submission.
        """
        self._on_wait, reported = lambda items: on_submitted(self._total + items), 0
        record: dict[str, str] = {}
        for attempt in self._publisher.backpressure(
            self._options.when_full, lambda: self._on_wait(0)
        ):
            with attempt:
                record = self._open()
        try:
            if record.get("pass") != self._pass_id:
                with redis_errors(self._url):
                    self._ledger.resume_batch(self._options.batch_id, self._pass_id)
            # Errors of the caller's iterable and callback reach the caller unchanged.
            for group in _group(self._jobs(items, record), self._first_new_id(record)):
                self._publisher.publish_many(group, self._options.when_full, self._on_wait)
                self._total += sum(job.record.items for job in group)
                reported = self._total
                on_submitted(reported)
            with redis_errors(self._url):
                self._seal()
        except BaseException:
            # An interrupted batch ends with its submitted items, or readers would wait forever.
            # Ctrl-C during an outage must not wait for its end.
            with suppress(redis.RedisError), outage_limit(0.0):
                self._ledger.interrupt_batch(self._options.batch_id, self._pass_id)
            raise
        if reported != self._total:
            on_submitted(self._total)

    def _open(self) -> dict[str, str]:
        """Return the batch's record, once it agrees with this submission."""
        batch = self._options
        fields = {
            "task": batch.task.value,
            "chunk_items": str(batch.chunk_items),
            "options": json.dumps(batch.options, sort_keys=True),
        }
        record, remaining_s = self._ledger.open_batch(
            batch.batch_id, fields, batch.keep_s, batch.metadata, self._pass_id, batch.deadline_s
        )
        # A second pass has the deadline of the first.
        if remaining_s is not None:
            self._deadline = time.monotonic() + remaining_s
        for name, value in fields.items():
            if _without_deadline(record[name]) != _without_deadline(value):
                raise IdTaken(
                    f"batch_id={batch.batch_id!r}: a batch with this id exists, with {name} "
                    f"{record[name]} and not {value}: submit the same, or choose another id"
                )
        if int(record["total"]):
            keys = self._ledger.keys
            stored: Any = self._redis.mget(keys.done(batch.batch_id), keys.digests(batch.batch_id))
            self._done, self._digests = (value or b"" for value in stored)
        return record

    def _seal(self) -> None:
        batch_id = self._options.batch_id
        submitted = self._ledger.seal_batch(batch_id, self._total)
        if submitted is None:
            raise JobUnknown(f"batch {batch_id} was deleted during its submission")
        if submitted < self._total:
            raise chunks_lost(batch_id)
        if submitted > self._total:
            raise IdTaken(
                f"batch_id={batch_id!r}: {submitted:,} items were submitted before, and only "
                f"{self._total:,} now. They continue; submit other items under another id"
            )

    def _jobs(self, items: Iterable[ItemSource], record: dict[str, str]) -> Iterator[NewJob]:
        batch, stream = self._options, iter(items)
        options = json.loads(record["options"])
        number = -1
        while sources := list(islice(stream, batch.chunk_items)):
            number += 1
            payloads = [prepare(source) for source in sources]
            images = _refer_to_images(payloads)
            chunk = Chunk(
                chunk_id(batch.batch_id, number),
                batch.task,
                cast(list[ItemPayload], payloads),
                options,
                None if self._deadline is None else self._deadline - time.monotonic(),
            )
            if self._is_done(number):
                remaining = int(record["total"]) - number * batch.chunk_items
                same_size = len(sources) == min(batch.chunk_items, remaining)
                if not same_size or self._differs(number, chunk.digest):
                    raise batch_differs(batch.batch_id, number)
                # The images of a chunk with a result are not uploaded again.
                self._total += len(sources)
                continue
            if images:
                self._publisher.upload(
                    images,
                    Queue.BULK,
                    batch.when_full,
                    self._on_wait,
                    account=account_of(batch.batch_id),
                )
            metadata = JobMetadata(digest=chunk.digest)
            chunk = replace(chunk, items=self._reject_unknown(chunk.items))
            # Without an event: Flower shows a bulk chunk once a worker receives it.
            yield NewJob(chunk.record(Queue.BULK, batch.submitter), metadata)

    def _first_new_id(self, record: dict[str, str]) -> str:
        """Return the id of the first chunk that no earlier pass submitted."""
        number = -(-int(record["total"]) // self._options.chunk_items)
        return chunk_id(self._options.batch_id, number)

    def _is_done(self, number: int) -> bool:
        """Return whether a chunk had ended when this pass started; bit 0 is a byte's highest."""
        index, bit = divmod(number, 8)
        return index < len(self._done) and bool(self._done[index] >> (7 - bit) & 1)

    def _reject_unknown(self, items: list[ItemPayload]) -> list[ItemPayload]:
        """Replace items whose image this batch's account has not uploaded by errors."""
        account = account_of(self._options.batch_id)
        images = (item.get("image") for item in items)
        shas = {blob_hash(image) for image in images if image is not None and is_blob(image)}
        if not account or not shas:
            return items
        with redis_errors(self._url):
            stored = self._ledger.touch([*shas], account)
        unknown = {sha for sha, exists in zip(shas, stored, strict=True) if not exists}
        return [reject_unknown(item, unknown) for item in items]

    def _differs(self, number: int, digest: str) -> bool:
        """Return whether a chunk differs from the one that was submitted before."""
        start = number * DIGEST_CHARS
        stored = self._digests[start : start + DIGEST_CHARS]
        # Older producers store no digest; Redis fills gaps with zero bytes.
        return any(stored) and stored != digest.encode()


def _refer_to_images(payloads: list[dict[str, Any]]) -> list[bytes]:
    """Replace the bytes of local images by references; return the bytes."""
    images: list[bytes] = []
    for payload in payloads:
        if isinstance(image := payload.get("image"), bytes):
            images.append(image)
            payload["image"] = blobs.reference_of(image)
    return images


def _without_deadline(value: str) -> str:
    """Return a field of a batch without the deadline, which differs at each submission."""
    if not value.startswith("{"):
        return value
    options = json.loads(value)
    options.pop("deadline", None)
    return json.dumps(options, sort_keys=True)


def _group(jobs: Iterable[NewJob], first_new_id: str) -> Iterator[list[NewJob]]:
    """Yield groups to publish in one round trip; a slow stream makes small groups.

    Chunks of earlier passes are published before the first new one: if one of them differs, no item
    of this pass is enqueued.
    """
    group: list[NewJob] = []
    publish_at = 0.0
    try:
        for job in jobs:
            if group and job.record.id == first_new_id:
                yield group
                group = []
            if not group:
                publish_at = time.monotonic() + PUBLISH_AFTER_S
            group.append(job)
            if len(group) == PIPELINE_MESSAGES or time.monotonic() >= publish_at:
                yield group
                group = []
    except SubmissionInterrupted:
        if group:
            yield group
        raise
    if group:
        yield group
