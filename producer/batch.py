"""A handle on a batch: any number of items, submitted in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from .connection.connect import redis_errors
from .connection.outage import outage_limit
from .contract import ErrorCode
from .errors import InvalidInput, JobUnknown, WaitTimeout
from .job import Result
from .ledger.batch_progress import read_progress
from .ledger.batch_record import BatchRecord
from .ledger.ids import chunk_id
from .ledger.ledger import Ledger
from .ledger.records import ChunkResult
from .ledger.requeue import retry_items
from .polling import PollSchedule
from .results.progress import Progress

#: Chunks whose results are read in one MGET.
PAGE_CHUNKS: Final = 128
#: Chunks that a reader without results checks for lost records.
LOOK_AHEAD_CHUNKS: Final = 16
#: Default maximum number of results in a page.
PAGE_RESULTS: Final = 4096
#: Maximum seconds between two look-ups of a batch.
MAX_DELAY_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Page:
    """The results of a batch that are available at one moment, in order."""

    results: list[Result]
    #: Position of the next page.
    cursor: int
    #: True if no further results will come.
    over: bool = False


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The state of a batch, and the numbers of the next chunks that have ended."""

    record: BatchRecord
    numbers: list[int]


class Batch:
    """A handle on one submitted batch, for any process. Every method queries Redis.

    Each method raises JobUnknown if there is no such batch, and ConnectionFailed if Redis is
    unreachable.
    """

    def __init__(self, batch_id: str, client: redis.Redis, ledger: Ledger, redis_url: str) -> None:
        self.id = batch_id
        self._redis = client
        self._redis_url = redis_url
        self._ledger = ledger
        self._keys = ledger.keys
        #: Items in a full chunk; None until the first look-up.
        self._chunk_items: int | None = None

    def __repr__(self) -> str:
        return f"Batch({self.id!r})"

    def progress(self) -> Progress:
        """Read the counts of items and the rate."""
        with redis_errors(self._redis_url):
            self._ledger.expire_due()
            (progress,) = read_progress(self._redis, self._keys, [self.id])
        if progress is None:
            raise self._unknown()
        return progress

    def results(
        self, timeout: float | None = None, *, cursor: int = 0, as_completed: bool = False
    ) -> Iterator[Result]:
        """Yield the result of every item in the order of submission, waiting for each.

        `as_completed` yields them in the order in which they ended: `index` then identifies the
        item, and a retried chunk is yielded again. `cursor` resumes after the result with this
        cursor, in the same order, in any process.

        `timeout` limits the wait for the next result, in seconds: after it WaitTimeout is raised,
        and the batch continues. Expired results raise no error: their items have the code
        `internal` and a message, and no `custom_id`; their `index` identifies them.
        """
        schedule = PollSchedule(timeout, MAX_DELAY_S)
        while True:
            with outage_limit(schedule.remaining_s() if timeout else None):
                page = self.page(cursor, as_completed=as_completed)
            if page.over:
                return
            yield from page.results
            cursor = page.cursor
            if page.results:
                schedule = PollSchedule(timeout, MAX_DELAY_S)
                continue
            self._ledger.worker_watch.look(schedule.waited_s())
            if not schedule.pause():
                raise self._wait_timeout(timeout)

    def page(
        self, cursor: int = 0, *, as_completed: bool = False, most: int = PAGE_RESULTS
    ) -> Page:
        """Read at most `most` of the available results, starting at a cursor.

        The call does not wait for results. The other arguments are as in `results`.
        """
        if cursor < 0:
            raise InvalidInput(f"cursor={cursor}: must be 0 or more")
        if most < 1:
            raise InvalidInput(f"most={most}: must be 1 or more")
        while True:
            # In both orders a cursor counts each chunk as a full one.
            size = self._chunk_items or self._record().chunk_items
            chunks = min(PAGE_CHUNKS, -(-(cursor % size + most) // size))
            snapshot = self._snapshot(cursor // size, chunks, as_completed)
            self._chunk_items = snapshot.record.chunk_items
            if self._chunk_items != size:
                # Another batch was submitted under this id after a deletion.
                continue
            if not snapshot.numbers:
                over = self._is_over(snapshot, cursor, as_completed)
                if not over:
                    self._end_lost_chunks()
                return Page([], cursor, over)
            page = self._read(snapshot, cursor, as_completed, most)
            if page.results or page.cursor == cursor:
                return page
            cursor = page.cursor

    def _read(self, snapshot: _Snapshot, cursor: int, as_completed: bool, limit: int) -> Page:
        """Read the results of these chunks, up to the first that is running again."""
        size = snapshot.record.chunk_items
        results: list[Result] = []
        ended = zip(snapshot.numbers, self._chunk_results(snapshot), strict=True)
        for position, (number, chunk_result) in enumerate(ended, start=cursor // size):
            if chunk_result is not None:
                first, items = cursor % size, snapshot.record.items_in(number)
                last = min(items, first + limit - len(results))
                results += [
                    Result.of(number * size + n, chunk_result.result(n), position * size + n + 1)
                    for n in range(first, last)
                ]
                if last < items:
                    return Page(results, position * size + last)
            elif not as_completed:
                break
            cursor = (position + 1) * size
        return Page(results, cursor)

    def cancel(self) -> None:
        """Cancel all items that have not ended; ended items keep their results."""
        self._record()
        with redis_errors(self._redis_url):
            self._ledger.cancel(self.id)

    def retry_failed(self) -> int:
        """Requeue the failed and cancelled items; return their number.

        Items that succeeded keep their results. Items with expired results do not change. A
        cancelled batch continues.
        """
        self._record()
        with redis_errors(self._redis_url):
            self._redis.delete(self._keys.cancelled(self.id))
            numbers = sorted(int(number) for number in self._redis.hkeys(self._failed_key))
            ids = (chunk_id(self.id, number) for number in numbers)
            return retry_items(self._ledger, ids, lambda result: "error" in result)

    def close(self) -> None:
        """Seal the batch, so that it accepts no more items, after its producer has died."""
        with redis_errors(self._redis_url):
            if self._ledger.seal_batch(self.id) is None:
                raise self._unknown()

    def delete(self, *, keep_cached: bool = False) -> None:
        """Delete the batch and its results; its waiting jobs never run.

        Unless `keep_cached`, the result cache forgets its answers as well, for all who use them,
        and uploaded images go, except those that other open jobs or other names need.
        """
        chunks = self._record().chunks
        with redis_errors(self._redis_url):
            self._ledger.delete_batch(self.id, chunks, keep_cached=keep_cached)

    @property
    def _failed_key(self) -> str:
        return self._keys.failed(self.id)

    def _snapshot(self, first: int, chunks: int, as_completed: bool) -> _Snapshot:
        """Read the state of the batch, and its ended chunks starting at a position."""
        keys, last = self._keys, first + chunks
        with redis_errors(self._redis_url):
            self._ledger.expire_due()
            # The record comes last: it counts every chunk that is listed before.
            pipe = self._redis.pipeline(transaction=False)
            if as_completed:
                pipe.lrange(keys.ended(self.id), first, last - 1)
            pipe.bitpos(keys.done(self.id), 0)
            pipe.exists(keys.cancelled(self.id))
            pipe.hgetall(keys.batch(self.id))
            *completed, first_open, cancelled, fields = pipe.execute()
        record = self._parse(fields)
        if cancelled and first_open < record.chunks:
            self._finish_cancellation(first_open, record.chunks)
        if as_completed:
            return _Snapshot(record, [int(number) for number in completed[0]])
        return _Snapshot(record, list(range(first, min(first_open, record.chunks, last))))

    def _finish_cancellation(self, first: int, chunks: int) -> None:
        """End the next chunks of a cancelled batch, in case its canceller died or is older."""
        last = min(first + PAGE_CHUNKS, chunks)
        with redis_errors(self._redis_url):
            self._ledger.cancel_chunks([chunk_id(self.id, n) for n in range(first, last)])

    def _end_lost_chunks(self) -> None:
        """End the next open chunks whose records Redis has lost: nobody else may look at them."""
        with redis_errors(self._redis_url):
            first: Any = self._redis.bitpos(self._keys.done(self.id), 0)
            self._ledger.end_lost([chunk_id(self.id, first + n) for n in range(LOOK_AHEAD_CHUNKS)])

    def _is_over(self, snapshot: _Snapshot, cursor: int, as_completed: bool) -> bool:
        if not as_completed:
            return snapshot.record.submitted and cursor >= snapshot.record.total
        progress = self.progress()
        # A cancellation ends the chunks page by page.
        is_cancelled = progress.cancelled and progress.done == progress.total
        if not (progress.finished or is_cancelled):
            return False
        return not self._snapshot(cursor // snapshot.record.chunk_items, 1, as_completed).numbers

    def _chunk_results(self, snapshot: _Snapshot) -> list[ChunkResult | None]:
        """Read the results of these chunks; None for a chunk that is running again.

        The result of an ended chunk that is not stored has expired.
        """
        if not snapshot.numbers:
            return []
        expired = ChunkResult.failed(ErrorCode.INTERNAL, "the result is no longer kept")
        numbers = snapshot.numbers
        with redis_errors(self._redis_url):
            stored = self._ledger.chunk_results([chunk_id(self.id, n) for n in numbers])
            missing = [n for n, result in zip(numbers, stored, strict=True) if result is None]
            pipe = self._redis.pipeline(transaction=False)
            for number in missing:
                pipe.getbit(self._keys.done(self.id), number)
            ended = dict(zip(missing, pipe.execute() if missing else (), strict=True))
        return [
            (expired if ended[number] else None) if result is None else result
            for number, result in zip(numbers, stored, strict=True)
        ]

    def _wait_timeout(self, timeout: float | None) -> WaitTimeout:
        """Return the error of a wait for results, with its probable cause."""
        progress = self.progress()
        message = f"batch {self.id}: no further result within {timeout:g} s "
        if progress.done == progress.total and not progress.submitted:
            return WaitTimeout(
                f"{message}and nothing was submitted for {progress.silent_s:.0f} s. If its "
                "producer died, submit the same items under this id again, or close the batch"
            )
        return WaitTimeout(
            f"{message}({progress.done} of {progress.total} items are done). "
            "Is a worker running on this Redis (`python -m worker`)? The batch continues"
        )

    def _record(self) -> BatchRecord:
        with redis_errors(self._redis_url):
            return self._parse(self._redis.hgetall(self._keys.batch(self.id)))

    def _parse(self, fields: Mapping[Any, Any]) -> BatchRecord:
        if not fields:
            raise self._unknown()
        return BatchRecord.of(fields)

    def _unknown(self) -> JobUnknown:
        return JobUnknown(f"no batch {self.id} was submitted to this Redis, or it has expired")
