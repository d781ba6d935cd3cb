"""The ledger: what is known of every job, kept in Redis beside the queues.

A job's row is opened before its message is published and closed by the very script that stores
its result. So 'waiting' can be told from 'never heard of it', and a result is never there
without the books saying so.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from . import contract
from .contract import ErrorCode, State


def new_id() -> str:
    """A job or batch id: a UUID of version 7, so that it tells when it was made."""
    stamp = int(time.time() * 1000) << 80
    random = secrets.randbits(74)
    value = stamp | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return str(uuid.UUID(int=value))


def made_at(job_or_batch_id: str) -> float | None:
    """When an id of ours was made (Unix seconds); None for any other."""
    try:
        value = uuid.UUID(job_or_batch_id)
    except ValueError:
        return None
    return (value.int >> 80) / 1000 if value.version == 7 else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished chunk: one result for each item, or one error for all of them."""

    results: list[dict[str, Any]] | None = None
    error: dict[str, Any] | None = None

    @classmethod
    def failed(cls, code: ErrorCode, message: str) -> Outcome:
        """All items of the chunk failed for the same reason."""
        return cls(error=contract.failure(code, message))

    @classmethod
    def decode(cls, stored: bytes | str) -> Outcome:
        """Read what Celery's result backend wrote."""
        meta = json.loads(stored)
        result = meta["result"]
        if meta["status"] == "SUCCESS" and isinstance(result, list):
            return cls(result)
        # Celery itself failed the task: no worker knows its name, or its arguments do not fit.
        about = result.get("exc_message") if isinstance(result, dict) else result
        return cls.failed(ErrorCode.INTERNAL, f"{meta['status'].lower()}: {about}")

    def result(self, index: int) -> dict[str, Any]:
        """The result of one item."""
        if self.results is None:
            assert self.error is not None
            return self.error
        return self.results[index]


#: KEYS: result, open, running, done, failed. ARGV: task id, result, its time to live, chunk number
#: or -1, failed items, the batch's time to live.
_FINISH = """
-- A script that has begun to write may go on writing: so results find room in a full Redis.
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
if not redis.call('SET', KEYS[1], ARGV[2], 'NX', 'EX', ARGV[3]) then return end
redis.call('PUBLISH', KEYS[1], ARGV[2])
if ARGV[4] == '-1' then return end
redis.call('SETBIT', KEYS[4], ARGV[4], 1)
redis.call('EXPIRE', KEYS[4], ARGV[6])
if ARGV[5] ~= '0' then
  redis.call('HSET', KEYS[5], ARGV[4], ARGV[5])
  redis.call('EXPIRE', KEYS[5], ARGV[6])
end
"""


class Ledger:
    """Reads and writes the books. Raises redis-py's errors as they are."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._finish = client.register_script(_FINISH)

    # What producers do.

    def open(self, task_ids: Iterable[str]) -> None:
        """Enter jobs that are about to be published."""
        now = time.time()
        self._redis.zadd(contract.OPEN_KEY, dict.fromkeys(task_ids, now))

    def withdraw(self, task_ids: Iterable[str]) -> None:
        """Take back jobs that were entered and could not be published."""
        self._redis.zrem(contract.OPEN_KEY, *task_ids)

    def cancel(self, job_or_batch_id: str) -> None:
        """Mark a job, or every chunk of a batch, as no longer wanted."""
        self._redis.set(contract.cancel_key(job_or_batch_id), 1, ex=contract.BATCH_TTL_S)

    def look_up(self, task_id: str) -> tuple[State, Outcome | None]:
        """What is known of a job, and how it ended if it did."""
        # No transaction: a full Redis refuses even to read in one. So the result comes last, or a
        # job that ends meanwhile would be neither open nor done.
        pipe = self._redis.pipeline(transaction=False)
        pipe.zscore(contract.OPEN_KEY, task_id)
        pipe.zscore(contract.RUNNING_KEY, task_id)
        pipe.exists(contract.cancel_key(task_id))
        pipe.get(contract.result_key(task_id))
        opened, begun, cancelled, stored = pipe.execute()
        if stored is not None:
            outcome = Outcome.decode(stored)
            return _ended_as(outcome.result(0)), outcome
        if cancelled:
            return State.CANCELLED, None
        if opened is not None:
            return (State.QUEUED if begun is None else State.RUNNING), None
        return _gone(task_id), None

    def outcomes(self, task_ids: Sequence[str]) -> list[Outcome | None]:
        """How jobs ended; None for those without a stored result."""
        stored = self._redis.mget([contract.result_key(task_id) for task_id in task_ids])
        return [None if one is None else Outcome.decode(one) for one in stored]

    # What workers do.

    def begin(self, task_id: str) -> tuple[Outcome | None, bool]:
        """Note that a chunk is begun.

        Returns its result, if it has one already, and whether it is cancelled.
        """
        pipe = self._redis.pipeline(transaction=False)
        pipe.get(contract.result_key(task_id))
        pipe.exists(*_cancel_keys(task_id))
        pipe.zadd(contract.RUNNING_KEY, {task_id: time.time()})
        # The mark tells producers how far the job is; a full Redis that refuses it stops no work.
        stored, cancelled, _ = pipe.execute(raise_on_error=False)
        for answer in (stored, cancelled):
            if isinstance(answer, Exception):
                raise answer
        if stored is None:
            return None, bool(cancelled)
        # Delivered again after it had ended: nothing will be stored, so nothing would close it.
        self._redis.zrem(contract.RUNNING_KEY, task_id)
        return Outcome.decode(stored), False

    def cancelled(self, task_ids: Sequence[str]) -> set[str]:
        """Which of these chunks somebody has cancelled."""
        pipe = self._redis.pipeline(transaction=False)
        for task_id in task_ids:
            pipe.exists(*_cancel_keys(task_id))
        return {task_id for task_id, yes in zip(task_ids, pipe.execute(), strict=True) if yes}

    def finish(self, task_id: str, stored: str, failed_items: int, ttl_s: int) -> None:
        """Store a job's result, tell those who wait for it, and close its row, all at once.

        The first result of a job stays: a chunk that was delivered twice counts once.
        """
        chunk = contract.parse_chunk_id(task_id)
        batch_id, number = chunk or ("", -1)
        self._finish(
            keys=[
                contract.result_key(task_id),
                contract.OPEN_KEY,
                contract.RUNNING_KEY,
                contract.batch_done_key(batch_id),
                contract.batch_failed_key(batch_id),
            ],
            args=[task_id, stored, ttl_s, number, failed_items, contract.BATCH_TTL_S],
        )


def _cancel_keys(task_id: str) -> list[str]:
    chunk = contract.parse_chunk_id(task_id)
    names = [task_id] if chunk is None else [task_id, chunk[0]]
    return [contract.cancel_key(name) for name in names]


def _ended_as(result: dict[str, Any]) -> State:
    error = result.get("error")
    if error is None:
        return State.DONE
    return State.CANCELLED if error["code"] == ErrorCode.CANCELLED else State.FAILED


def _gone(task_id: str) -> State:
    """Neither open nor stored: an id older than results are kept must have finished."""
    made = made_at(task_id)
    old = made is not None and made < time.time() - contract.RESULT_TTL_S
    return State.EXPIRED if old else State.UNKNOWN
