"""Dead letters: jobs with an item that was given up on although nothing is wrong with it.

Such an item ended with one of `contract.DEAD_CODES`. Its job's row and result are kept as long as
those of any job that failed, so it can be looked at, asked again, or struck off the list.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from .connection.connect import redis_errors
from .contract import DEAD_CODES, ErrorCode
from .errors import JobUnknown
from .ledger.ids import parse_chunk_id
from .ledger.ledger import Ledger
from .ledger.records import ChunkResult, JobRecord
from .ledger.requeue import ask_again

#: Letters that are read in one round trip: each may be a job of 1,024 items.
PAGE_LETTERS: Final = 64


@dataclass(frozen=True, slots=True)
class DeadItem:
    """One item that was given up on."""

    #: Its place among the items that were submitted, from 0: of a batch, in the whole batch.
    index: int
    #: What was asked, as the contract has it.
    item: dict[str, Any]
    code: ErrorCode
    message: str

    def to_json(self) -> dict[str, Any]:
        """As one value of JSON."""
        error = {"code": self.code.value, "message": self.message}
        return {"index": self.index, "item": self.item, "error": error}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job with items that were given up on."""

    id: str
    #: When it ended so (Unix seconds).
    at: float
    #: What is asked of items that do not say it themselves: ``caption``.
    task: str
    queue: str
    #: The batch that it is a chunk of, if it is one.
    batch: str | None
    #: How many items it has, whatever became of them.
    items: int
    died: list[DeadItem]

    @property
    def codes(self) -> list[ErrorCode]:
        """Why its items died."""
        return sorted({one.code for one in self.died})

    def to_json(self) -> dict[str, Any]:
        """As one value of JSON."""
        about = {"id": self.id, "at": self.at, "task": self.task, "queue": self.queue}
        counts = {"batch": self.batch, "items": self.items}
        return {**about, **counts, "died": [one.to_json() for one in self.died]}


class DeadLetters:
    """The dead letters of one Redis. Every method asks Redis anew.

    `for letter in client.dead` goes from the newest to the oldest, a page at a time. What is no
    longer kept is left out, and taken off the list. Everything raises
    ConnectionFailed when Redis is away.
    """

    def __init__(self, client: redis.Redis, ledger: Ledger, redis_url: str) -> None:
        self._redis = client
        self._ledger = ledger
        self._redis_url = redis_url
        self._key = ledger.keys.dead

    def __iter__(self) -> Iterator[DeadLetter]:
        for page in self._pages():
            yield from self._read(page)

    def get(self, job_id: str) -> DeadLetter:
        """One letter; raises JobUnknown where there is none of this id."""
        (at,) = self._times([job_id])
        for letter in self._read({job_id: at}):
            return letter
        raise _unknown(job_id)

    def retry(self, job_ids: str | Iterable[str] | None = None) -> int:
        """Ask again what died in these jobs, or in all of them; returns the number of items.

        What else they hold keeps its result, other errors included. A job that is asked again is
        no dead letter any more, unless it becomes one anew. Raises JobUnknown, before anything is
        asked, where there is no letter of an id.
        """
        if job_ids is not None:
            return self._ask_again(self._known(job_ids))
        return sum(self._ask_again([*page]) for page in self._pages())

    def purge(self, job_ids: str | Iterable[str] | None = None) -> int:
        """Take these jobs, or all, off the list; returns their number. Results stay as they are.

        Raises JobUnknown, before anything is taken off, where there is no letter of an id.
        """
        known = None if job_ids is None else self._known(job_ids)
        with redis_errors(self._redis_url):
            if known is None:
                return int(self._redis.zremrangebyrank(self._key, 0, -1))
            return int(self._redis.zrem(self._key, *known)) if known else 0

    def _ask_again(self, job_ids: Sequence[str]) -> int:
        with redis_errors(self._redis_url):
            return ask_again(self._ledger, job_ids, _died)

    def _known(self, job_ids: str | Iterable[str]) -> list[str]:
        """These ids, each once; all of them are on the list."""
        ids = list(dict.fromkeys([job_ids] if isinstance(job_ids, str) else job_ids))
        self._times(ids)
        return ids

    def _times(self, job_ids: Sequence[str]) -> list[float]:
        """When these jobs became dead letters; raises JobUnknown where one is none."""
        if not job_ids:
            return []
        with redis_errors(self._redis_url):
            found: list[float | None] = self._redis.zmscore(self._key, [*job_ids])
        for job_id, at in zip(job_ids, found, strict=True):
            if at is None:
                raise _unknown(job_id)
        return [at for at in found if at is not None]

    def _pages(self) -> Iterator[dict[str, float]]:
        """Ids and times, the newest first: what dies meanwhile is not met, and so this ends."""
        before, met = math.inf, set[str]()
        while True:
            # Those that share the time of the last one may have been met, and may be gone since.
            with redis_errors(self._redis_url):
                found: Any = self._redis.zrevrangebyscore(
                    self._key,
                    before,
                    -math.inf,
                    start=0,
                    num=PAGE_LETTERS + len(met),
                    withscores=True,
                )
            times = {name.decode(): at for name, at in found}
            page = {job_id: at for job_id, at in times.items() if job_id not in met}
            if not page:
                return
            last = min(page.values())
            met = {job_id for job_id, at in page.items() if at == last} | (
                met if last == before else set()
            )
            before = last
            yield page

    def _read(self, page: dict[str, float]) -> Iterator[DeadLetter]:
        """The letters of a page, in its order, without those that are no longer kept."""
        ids = list(page)
        chunks = [parse_chunk_id(job_id) for job_id in ids]
        with redis_errors(self._redis_url):
            rows, outcomes = self._ledger.records(ids), self._ledger.chunk_results(ids)
            pipe = self._redis.pipeline(transaction=False)
            for chunk in chunks:
                pipe.hget(self._ledger.keys.batch(chunk[0] if chunk else ""), "chunk_items")
            sizes = pipe.execute()
            gone = [job_id for job_id, row in zip(ids, rows, strict=True) if row is None]
            if gone:
                self._redis.zrem(self._key, *gone)
        for row, outcome, chunk, size in zip(rows, outcomes, chunks, sizes, strict=True):
            # A row without a result has just been asked again.
            if row is not None and outcome is not None:
                batch, first = (chunk[0], chunk[1] * int(size)) if chunk and size else (None, 0)
                letter = _letter(row, outcome, page[row.id], batch, first)
                if letter.died:
                    yield letter


def _letter(
    row: JobRecord, outcome: ChunkResult, at: float, batch: str | None, first: int
) -> DeadLetter:
    asked = json.loads(row.payload)
    died = []
    for place, item in enumerate(asked["items"]):
        result = outcome.result(place)
        if _died(result):
            error = result["error"]
            code = ErrorCode(error["code"])
            died.append(DeadItem(first + place, item, code, error["message"]))
    return DeadLetter(row.id, at, asked["task"], row.queue, batch, row.items, died)


def _died(result: dict[str, Any]) -> bool:
    return "error" in result and result["error"]["code"] in DEAD_CODES


def _unknown(job_id: str) -> JobUnknown:
    return JobUnknown(
        f"no dead letter {job_id}: it never was one, or was asked again, purged, or kept no longer"
    )
