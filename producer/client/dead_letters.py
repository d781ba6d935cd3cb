"""The dead letter queue: jobs with a valid item that workers gave up on.

Such an item ended with one of `contract.DEAD_CODES`. Redis keeps the record and result of its job
as long as those of any failed job. Until then the job can be inspected, retried, or purged from the
list. A message that no consumer can process is a dead letter without a job: see
`DeadLetters.messages`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import redis

from ..connection.connect import redis_errors
from ..contract import DEAD_CODES, ChunkPayload, ErrorCode, ItemResult
from ..errors import InvalidInput, JobUnknown
from ..ledger.ids import parse_chunk_id
from ..ledger.ledger import Ledger
from ..ledger.malformed import ID_PREFIX, MalformedMessage, MalformedMessages
from ..ledger.records import ChunkResult, JobRecord
from ..ledger.requeue import retry_items

#: Dead letters read in one round trip: each may be a job of 1,024 items.
PAGE_LETTERS: Final = 64


@dataclass(frozen=True, slots=True)
class DeadItem:
    """An item that workers gave up on."""

    #: Index among the submitted items, from 0; for a chunk, the index in its batch.
    index: int
    #: The item in the form of the contract.
    item: dict[str, Any]
    code: ErrorCode
    message: str

    def to_json(self) -> dict[str, Any]:
        """Return the item and its error as JSON."""
        error = {"code": self.code.value, "message": self.message}
        return {"index": self.index, "item": self.item, "error": error}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job with items that workers gave up on."""

    id: str
    #: Time of its end (Unix seconds).
    at: float
    #: Task of the items that do not name one, such as ``caption``.
    task: str
    queue: str
    #: Id of the batch, if the job is a chunk.
    batch: str | None
    #: Number of all its items.
    items: int
    died: list[DeadItem]

    @property
    def codes(self) -> list[ErrorCode]:
        """The error codes of its dead items, sorted."""
        return sorted({item.code for item in self.died})

    def to_json(self) -> dict[str, Any]:
        """Return the dead letter as JSON."""
        return {
            "id": self.id,
            "at": self.at,
            "task": self.task,
            "queue": self.queue,
            "batch": self.batch,
            "items": self.items,
            "died": [item.to_json() for item in self.died],
        }


class DeadLetters:
    """The dead letters of one Redis. Every method queries Redis.

    `for letter in client.dead` iterates from the newest to the oldest, a page at a time. A letter
    whose job record has expired is skipped and removed from the list. Every method raises
    ConnectionFailed if Redis is unreachable.
    """

    def __init__(self, client: redis.Redis, ledger: Ledger, redis_url: str) -> None:
        self._redis = client
        self._ledger = ledger
        self._redis_url = redis_url
        self._key = ledger.keys.dead
        self._malformed = MalformedMessages(client, ledger.keys)

    def __iter__(self) -> Iterator[DeadLetter]:
        for page in self._pages():
            yield from self._read(page)

    def messages(self) -> list[MalformedMessage]:
        """Return the malformed messages, the newest first: any Redis client can push one.

        They have no job. The newest ones are kept, each with its first 16 KiB.
        """
        with redis_errors(self._redis_url):
            return self._malformed.read_all()

    def message(self, message_id: str) -> MalformedMessage:
        """Return the malformed message of this id; raise JobUnknown if there is none."""
        for message in self.messages():
            if message.id == message_id:
                return message
        raise _unknown(message_id)

    def get(self, job_id: str) -> DeadLetter:
        """Return the dead letter of this id; raise JobUnknown if there is none."""
        (at,) = self._times([job_id])
        for letter in self._read({job_id: at}):
            return letter
        raise _unknown(job_id)

    def retry(self, job_ids: str | Iterable[str] | None = None) -> int:
        """Requeue the dead items of these jobs, or of all dead letters; return their number.

        The other items keep their results and errors. A requeued job leaves the list, and returns
        if an item ends in this way again. Raise JobUnknown, before any job is requeued, if an id
        has no dead letter, and InvalidInput for the id of a malformed message.
        """
        if job_ids is not None:
            return self._retry(self._known(job_ids))
        return sum(self._retry([*page]) for page in self._pages())

    def purge(self, job_ids: str | Iterable[str] | None = None) -> int:
        """Remove these jobs and malformed messages, or all, from the list; return their number.

        Results are kept. Raise JobUnknown, before any is removed, if an id has no dead letter.
        """
        if job_ids is None:
            with redis_errors(self._redis_url):
                jobs = int(self._redis.zremrangebyrank(self._key, 0, -1))
                return jobs + self._malformed.clear()
        ids = _distinct(job_ids)
        messages = [letter_id for letter_id in ids if is_message(letter_id)]
        known = self._known(letter_id for letter_id in ids if not is_message(letter_id))
        stored = {message.id for message in self.messages()} if messages else set()
        for message_id in messages:
            if message_id not in stored:
                raise _unknown(message_id)
        with redis_errors(self._redis_url):
            removed = int(self._redis.zrem(self._key, *known)) if known else 0
            return removed + self._malformed.remove(messages)

    def _retry(self, job_ids: Sequence[str]) -> int:
        with redis_errors(self._redis_url):
            return retry_items(self._ledger, job_ids, _died)

    def _known(self, job_ids: str | Iterable[str]) -> list[str]:
        """Return these ids without duplicates; raise JobUnknown if an id is not on the list."""
        ids = _distinct(job_ids)
        for message_id in filter(is_message, ids):
            raise InvalidInput(
                f"{message_id} is a message that no worker can process, not a job: it cannot be "
                "retried. Correct the program that sent it (`blipline dead show`), submit the job "
                "again, and purge the message"
            )
        self._times(ids)
        return ids

    def _times(self, job_ids: Sequence[str]) -> list[float]:
        """Return the times of these dead letters; raise JobUnknown if an id has none."""
        if not job_ids:
            return []
        with redis_errors(self._redis_url):
            times: list[float | None] = self._redis.zmscore(self._key, [*job_ids])
        for job_id, at in zip(job_ids, times, strict=True):
            if at is None:
                raise _unknown(job_id)
        return [at for at in times if at is not None]

    def _pages(self) -> Iterator[dict[str, float]]:
        """Yield ids and times, the newest first; letters added meanwhile are not read."""
        before, seen = math.inf, set[str]()
        while True:
            # Letters with the time of the last one may already be read, and removed since.
            with redis_errors(self._redis_url):
                entries: Any = self._redis.zrevrangebyscore(
                    self._key,
                    before,
                    -math.inf,
                    start=0,
                    num=PAGE_LETTERS + len(seen),
                    withscores=True,
                )
            times = {name.decode(): at for name, at in entries}
            page = {job_id: at for job_id, at in times.items() if job_id not in seen}
            if not page:
                return
            last = min(page.values())
            seen = {job_id for job_id, at in page.items() if at == last} | (
                seen if last == before else set()
            )
            before = last
            yield page

    def _read(self, page: dict[str, float]) -> Iterator[DeadLetter]:
        """Yield the letters of a page, in its order, without those whose records have expired."""
        ids = list(page)
        chunks = [parse_chunk_id(job_id) for job_id in ids]
        with redis_errors(self._redis_url):
            records, results = self._ledger.records(ids), self._ledger.chunk_results(ids)
            pipe = self._redis.pipeline(transaction=False)
            for chunk in chunks:
                pipe.hget(self._ledger.keys.batch(chunk[0] if chunk else ""), "chunk_items")
            sizes = pipe.execute()
            expired = [
                job_id for job_id, record in zip(ids, records, strict=True) if record is None
            ]
            if expired:
                self._redis.zrem(self._key, *expired)
        for record, result, chunk, size in zip(records, results, chunks, sizes, strict=True):
            # A record without a result has just been requeued.
            if record is not None and result is not None:
                batch, first = (chunk[0], chunk[1] * int(size)) if chunk and size else (None, 0)
                letter = _letter(record, result, page[record.id], batch, first)
                if letter.died:
                    yield letter


def is_message(letter_id: str) -> bool:
    """Return whether an id is that of a malformed message."""
    return letter_id.startswith(ID_PREFIX)


def _distinct(ids: str | Iterable[str]) -> list[str]:
    return list(dict.fromkeys([ids] if isinstance(ids, str) else ids))


def _letter(
    record: JobRecord, chunk_result: ChunkResult, at: float, batch: str | None, first: int
) -> DeadLetter:
    payload: ChunkPayload = json.loads(record.payload)
    died = []
    for index, item in enumerate(payload["items"]):
        result = chunk_result.result(index)
        if _died(result):
            error = result["error"]
            code = ErrorCode(error["code"])
            died.append(DeadItem(first + index, cast(dict[str, Any], item), code, error["message"]))
    return DeadLetter(record.id, at, payload["task"], record.queue, batch, record.items, died)


def _died(result: ItemResult) -> bool:
    return "error" in result and result["error"]["code"] in DEAD_CODES


def _unknown(job_id: str) -> JobUnknown:
    return JobUnknown(
        f"no dead letter {job_id}: the job never was one, or was retried or purged, or has expired"
    )
