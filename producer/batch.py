"""A handle on a batch: any number of items, submitted in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import redis

from . import contract
from .connection import reaching
from .contract import ErrorCode, State
from .errors import JobUnknown, WaitTimeout
from .job import Patience, Result
from .ledger import Ledger, Outcome

#: Chunks whose results are read in one MGET.
PAGE_CHUNKS: Final = 128
#: Seconds between two looks at a batch at most.
LONGEST_PAUSE_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts of items at one moment."""

    total: int
    done: int
    failed: int
    #: Whether everything has been submitted, so that `total` is final.
    submitted: bool
    cancelled: bool

    @property
    def finished(self) -> bool:
        """Whether every item has its result."""
        return self.submitted and self.done == self.total

    @property
    def state(self) -> State:
        """The whole batch as one state; `failed` when any item failed."""
        if self.cancelled:
            return State.CANCELLED
        if self.finished:
            return State.FAILED if self.failed else State.DONE
        return State.RUNNING if self.done else State.QUEUED


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


class Batch:
    """One submitted batch. Every method asks Redis anew; any process may hold a handle."""

    def __init__(self, batch_id: str, client: redis.Redis, redis_url: str) -> None:
        self.id = batch_id
        self._redis = client
        self._redis_url = redis_url
        self._ledger = Ledger(client)

    def __repr__(self) -> str:
        return f"Batch({self.id!r})"

    def progress(self) -> Progress:
        """Counts of items; raises JobUnknown when there is no such batch."""
        with reaching(self._redis_url):
            # No transaction: a full Redis refuses even to read in one.
            pipe = self._redis.pipeline(transaction=False)
            pipe.hgetall(contract.batch_key(self.id))
            pipe.bitcount(contract.batch_done_key(self.id))
            pipe.hvals(contract.batch_failed_key(self.id))
            pipe.exists(contract.cancel_key(self.id))
            fields, chunks_done, failed, cancelled = pipe.execute()
            record = self._parse(fields)
            done = min(chunks_done * record.chunk_items, record.total)
            if chunks_done < record.chunks and record.total % record.chunk_items:
                # The last chunk is shorter than the others: count it at its own size.
                last = record.chunks - 1
                if self._redis.getbit(contract.batch_done_key(self.id), last):
                    done -= record.chunk_items - record.items_in(last)
        return Progress(
            record.total, done, sum(map(int, failed)), record.submitted, bool(cancelled)
        )

    def results(self, timeout: float | None = None) -> Iterator[Result]:
        """Every item's result in the order of submission, each as soon as those before it are in.

        `timeout` bounds, in seconds, the wait for the next result; then WaitTimeout is raised and
        the batch goes on. Results that are no longer kept raise no error: they are items with the
        code `internal` that say so. Where a chunk has no stored result (it is no longer kept, or
        was cancelled before it began) the items have no `custom_id`; their `index` tells them.
        """
        number = 0
        patience = Patience(timeout, LONGEST_PAUSE_S)
        while True:
            record, ended, cancelled = self._look()
            # Chunks of a cancelled batch end, whether a worker has come to them or not.
            ended = record.chunks if cancelled else min(ended, record.chunks)
            page = range(number, min(ended, number + PAGE_CHUNKS))
            for chunk, outcome in zip(page, self._outcomes(page, cancelled), strict=True):
                for offset in range(record.items_in(chunk)):
                    index = chunk * record.chunk_items + offset
                    yield Result.of(index, outcome.result(offset))
            number += len(page)
            if record.submitted and number >= record.chunks:
                return
            if page:
                patience = Patience(timeout, LONGEST_PAUSE_S)
            elif not patience.pause():
                raise WaitTimeout(self._waited(timeout))

    def cancel(self) -> None:
        """What has not begun never runs, what runs stops; what has finished keeps its result."""
        self._look()
        with reaching(self._redis_url):
            self._ledger.cancel(self.id)

    def _look(self) -> tuple[_Record, int, bool]:
        """The record, how many chunks from the first on have ended, whether it is cancelled."""
        with reaching(self._redis_url):
            pipe = self._redis.pipeline(transaction=False)
            pipe.hgetall(contract.batch_key(self.id))
            pipe.bitpos(contract.batch_done_key(self.id), 0)
            pipe.exists(contract.cancel_key(self.id))
            fields, ended, cancelled = pipe.execute()
        return self._parse(fields), ended, bool(cancelled)

    def _outcomes(self, numbers: range, cancelled: bool) -> list[Outcome]:
        """How these chunks ended; one without a stored result was cancelled, or is too old."""
        if not numbers:
            return []
        without = (
            Outcome.failed(ErrorCode.CANCELLED, "the batch was cancelled")
            if cancelled
            else Outcome.failed(ErrorCode.INTERNAL, "the result is no longer kept")
        )
        with reaching(self._redis_url):
            page = self._ledger.outcomes([contract.chunk_id(self.id, n) for n in numbers])
        return [without if outcome is None else outcome for outcome in page]

    def _waited(self, timeout: float | None) -> str:
        progress = self.progress()
        return (
            f"batch {self.id}: no further result within {timeout:g} s "
            f"({progress.done} of {progress.total} items are done). "
            "Is a worker running on this Redis (`python -m worker`)? The batch goes on"
        )

    def _parse(self, fields: dict[Any, Any]) -> _Record:
        if not fields:
            raise JobUnknown(f"no batch {self.id} was submitted to this Redis, or it has expired")
        return _Record(
            int(fields[b"total"]), int(fields[b"chunk_items"]), fields[b"submitted"] == b"1"
        )
