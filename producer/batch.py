"""A handle on a batch: any number of items, submitted in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import redis

from .connection.connect import redis_errors
from .contract import ErrorCode
from .errors import InvalidInput, JobUnknown, WaitTimeout
from .job import Result
from .ledger.ids import chunk_id
from .ledger.ledger import Ledger
from .ledger.records import ChunkResult
from .ledger.requeue import ask_again
from .polling import PollSchedule
from .progress import Progress

#: Chunks whose results are read in one MGET.
PAGE_CHUNKS: Final = 128
#: Results that are read at once, unless a caller says otherwise.
PAGE_RESULTS: Final = 4096
#: Seconds between two looks at a batch at most.
LONGEST_PAUSE_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Page:
    """Results of a batch that are there at one moment, in order."""

    results: list[Result]
    #: Where they go on.
    cursor: int
    #: Whether that is the end: no more will come.
    over: bool = False


@dataclass(frozen=True, slots=True)
class _Record:
    """What a batch's hash in Redis says."""

    total: int
    chunk_items: int
    submitted: bool

    @property
    def chunks(self) -> int:
        return -(-self.total // self.chunk_items)

    def items_in(self, number: int) -> int:
        return min(self.chunk_items, self.total - number * self.chunk_items)


@dataclass(frozen=True, slots=True)
class _Look:
    """A batch as it stands, and which of its chunks come next."""

    record: _Record
    numbers: list[int]
    cancelled: bool


class Batch:
    """One submitted batch. Every method asks Redis anew; any process may hold a handle.

    Each raises JobUnknown when there is no such batch, and ConnectionFailed when Redis is away.
    """

    def __init__(self, batch_id: str, client: redis.Redis, ledger: Ledger, redis_url: str) -> None:
        self.id = batch_id
        self._redis = client
        self._redis_url = redis_url
        self._ledger = ledger
        self._keys = ledger.keys
        #: Items in a full chunk, once that is known.
        self._size: int | None = None

    def __repr__(self) -> str:
        return f"Batch({self.id!r})"

    def progress(self) -> Progress:
        """Counts of items, and how fast it goes."""
        with redis_errors(self._redis_url):
            # No transaction: a full Redis refuses even to read in one.
            pipe = self._redis.pipeline(transaction=False)
            pipe.hgetall(self._keys.batch(self.id))
            pipe.exists(self._keys.cancelled(self.id))
            pipe.time()
            fields, cancelled, (seconds, microseconds) = pipe.execute()
        if not fields:
            raise self._unknown()
        return Progress.of(fields, bool(cancelled), seconds + microseconds / 1e6)

    def results(
        self, timeout: float | None = None, *, cursor: int = 0, as_completed: bool = False
    ) -> Iterator[Result]:
        """Every item's result in the order of submission, each as soon as those before it are in.

        `as_completed` gives them in the order in which they ended; `index` then tells which item
        it is, a chunk that was retried comes again, and of a cancelled batch there is what ended
        before. `cursor` goes on after the result that has it, in the same order, also in another
        process.

        `timeout` bounds, in seconds, the wait for the next result; then WaitTimeout is raised and
        the batch goes on. Results that are no longer kept raise no error: they are items with the
        code `internal` that say so. Where a chunk has no stored result (it is no longer kept, or
        was cancelled before it began) the items have no `custom_id`; their `index` tells them.
        """
        patience = PollSchedule(timeout, LONGEST_PAUSE_S)
        while not (page := self.page(cursor, as_completed=as_completed)).over:
            yield from page.results
            cursor = page.cursor
            if page.results:
                patience = PollSchedule(timeout, LONGEST_PAUSE_S)
            elif not patience.pause():
                raise WaitTimeout(self._waited(timeout))

    def page(
        self, cursor: int = 0, *, as_completed: bool = False, most: int = PAGE_RESULTS
    ) -> Page:
        """The results that are there now, from a cursor on, `most` of them at most.

        It never waits: for whoever reads at a pace of their own. The rest is as in `results`.
        """
        if cursor < 0:
            raise InvalidInput(f"cursor={cursor}: must be 0 or more")
        if most < 1:
            raise InvalidInput(f"most={most}: must be 1 or more")
        while True:
            # In either order a chunk has places for as many items as a full one.
            size = self._size or self._record().chunk_items
            chunks = min(PAGE_CHUNKS, -(-(cursor % size + most) // size))
            look = self._look(cursor // size, chunks, as_completed)
            self._size = look.record.chunk_items
            if self._size != size:
                # It was deleted, and there is another one of this id.
                continue
            if not look.numbers:
                return Page([], cursor, self._over(look, cursor, as_completed))
            page = self._read(look, cursor, as_completed, most)
            if page.results or page.cursor == cursor:
                return page
            cursor = page.cursor

    def _read(self, look: _Look, cursor: int, as_completed: bool, most: int) -> Page:
        """The results of these chunks, up to the first that is being asked again."""
        size = look.record.chunk_items
        results: list[Result] = []
        ended = zip(look.numbers, self._outcomes(look), strict=True)
        for place, (number, outcome) in enumerate(ended, start=cursor // size):
            if outcome is not None:
                first, ends = cursor % size, look.record.items_in(number)
                last = min(ends, first + most - len(results))
                results += [
                    Result.of(number * size + at, outcome.result(at), place * size + at + 1)
                    for at in range(first, last)
                ]
                if last < ends:
                    return Page(results, place * size + last)
            elif not as_completed:
                break
            cursor = (place + 1) * size
        return Page(results, cursor)

    def cancel(self) -> None:
        """What has not begun never runs, what runs stops; what has finished keeps its result."""
        self._record()
        with redis_errors(self._redis_url):
            self._ledger.cancel(self.id)

    def retry_failed(self) -> int:
        """Ask again what has failed or was cancelled; returns the number of these items.

        Items that succeeded keep their results. What failed longer ago than results are kept
        stays as it is. A batch that was cancelled goes on.
        """
        self._record()
        with redis_errors(self._redis_url):
            self._redis.delete(self._keys.cancelled(self.id))
            numbers = sorted(int(number) for number in self._redis.hkeys(self._failed_key))
            ids = (chunk_id(self.id, number) for number in numbers)
            return ask_again(self._ledger, ids, lambda result: "error" in result)

    def close(self) -> None:
        """Say that no more items come: for a batch whose producer died while it submitted."""
        with redis_errors(self._redis_url):
            if self._ledger.seal_batch(self.id) is None:
                raise self._unknown()

    def delete(self) -> None:
        """Drop everything: results are gone, what has not begun never runs."""
        record = self._record()
        keys = self._keys
        with redis_errors(self._redis_url):
            # Chunks that are running now find it gone when they end.
            self._ledger.cancel(self.id)
            record_key = keys.batch(self.id)
            self._redis.delete(
                record_key, keys.done(self.id), self._failed_key, keys.ended(self.id)
            )
            # The last ones first, or those that are next would be handed to Celery meanwhile.
            self._ledger.delete_jobs([chunk_id(self.id, n) for n in reversed(range(record.chunks))])

    @property
    def _failed_key(self) -> str:
        return self._keys.failed(self.id)

    def _look(self, first: int, chunks: int, as_completed: bool) -> _Look:
        """The batch as it stands, and the next chunks that have ended, from a place on."""
        keys, last = self._keys, first + chunks
        with redis_errors(self._redis_url):
            # The record comes last: of every chunk that is listed it knows.
            pipe = self._redis.pipeline(transaction=False)
            if as_completed:
                pipe.lrange(keys.ended(self.id), first, last - 1)
            else:
                pipe.bitpos(keys.done(self.id), 0)
            pipe.exists(keys.cancelled(self.id))
            pipe.hgetall(keys.batch(self.id))
            ended, cancelled, fields = pipe.execute()
        record = self._parse(fields)
        if as_completed:
            return _Look(record, [int(number) for number in ended], cancelled=False)
        # Chunks of a cancelled batch end, whether a worker has come to them or not.
        stop = record.chunks if cancelled else min(ended, record.chunks)
        return _Look(record, list(range(first, min(stop, last))), bool(cancelled))

    def _over(self, look: _Look, cursor: int, as_completed: bool) -> bool:
        if not as_completed:
            return look.record.submitted and cursor >= look.record.total
        progress = self.progress()
        over = progress.finished or progress.cancelled
        return over and not self._look(cursor // look.record.chunk_items, 1, as_completed).numbers

    def _outcomes(self, look: _Look) -> list[ChunkResult | None]:
        """How these chunks ended; None for one that is being asked again.

        One without a stored result was cancelled, or is too old.
        """
        if not look.numbers:
            return []
        without = (
            ChunkResult.failed(ErrorCode.CANCELLED, "the batch was cancelled")
            if look.cancelled
            else ChunkResult.failed(ErrorCode.INTERNAL, "the result is no longer kept")
        )
        with redis_errors(self._redis_url):
            page = self._ledger.chunk_results([chunk_id(self.id, n) for n in look.numbers])
            missing = [n for n, one in zip(look.numbers, page, strict=True) if one is None]
            pipe = self._redis.pipeline(transaction=False)
            for number in missing:
                pipe.getbit(self._keys.done(self.id), number)
            ended = dict(zip(missing, pipe.execute() if missing else (), strict=True))
        return [
            (without if look.cancelled or ended[number] else None) if outcome is None else outcome
            for number, outcome in zip(look.numbers, page, strict=True)
        ]

    def _waited(self, timeout: float | None) -> str:
        """What to say when a wait for results was too long."""
        now = self.progress()
        about = f"batch {self.id}: no further result within {timeout:g} s "
        if now.done == now.total and not now.submitted:
            return (
                f"{about}and nothing was submitted for {now.silent_s:.0f} s. If its producer is "
                "gone, submit the same items under this id again, or close the batch"
            )
        return (
            f"{about}({now.done} of {now.total} items are done). "
            "Is a worker running on this Redis (`python -m worker`)? The batch goes on"
        )

    def _record(self) -> _Record:
        with redis_errors(self._redis_url):
            return self._parse(self._redis.hgetall(self._keys.batch(self.id)))

    def _unknown(self) -> JobUnknown:
        return JobUnknown(f"no batch {self.id} was submitted to this Redis, or it has expired")

    def _parse(self, fields: dict[Any, Any]) -> _Record:
        if not fields:
            raise self._unknown()
        return _Record(
            int(fields[b"total"]), int(fields[b"chunk_items"]), fields[b"submitted"] == b"1"
        )
