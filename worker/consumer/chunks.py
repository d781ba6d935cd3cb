"""Working off one chunk: from a message that was delivered to the results that are stored."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from producer import contract
from producer.connection.connect import is_transient
from producer.contract import (
    MAX_ATTEMPTS,
    MAX_CHUNK_ITEMS,
    MAX_DEATHS,
    WHOLE_ATTEMPTS,
    ErrorCode,
    Task,
)
from producer.ledger.ledger import Ledger
from producer.ledger.records import Claim
from worker.consumer.pipeline import ChunkState, ItemHandler
from worker.consumer.validation import ChunkOptions, read_options
from worker.errors import ItemRejected, Result

log = logging.getLogger(__name__)

#: Seconds before Redis is asked again that refused.
REDIS_PAUSE_S: Final = 1.0


@dataclass(slots=True)
class _Running:
    """A chunk that is being worked off; a second delivery waits for the same results."""

    results: Future[list[Result] | None] = field(default_factory=Future)
    underway: ChunkState = field(default_factory=ChunkState)
    #: The ledger has given it to this consumer: before that, no sign of life may claim it.
    begun: bool = False


@dataclass(frozen=True, slots=True)
class _Work:
    """What is asked of some items of a chunk."""

    mine: _Running
    task_id: str
    task: Task
    terms: ChunkOptions


class ChunkRunner:
    """Thread-safe; one for each consumer process."""

    def __init__(self, ledger: Ledger, answering: ItemHandler) -> None:
        self._ledger = ledger
        self._answering = answering
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}

    @property
    def running(self) -> list[str]:
        """Ids of the chunks that are being worked off."""
        with self._lock:
            return [task_id for task_id, one in self._running.items() if one.begun]

    def cancel(self, task_id: str) -> None:
        """End a chunk's rows soon, if it is being worked off here."""
        with self._lock:
            running = self._running.get(task_id)
        if running is not None:
            running.underway.cancelled = True
            self._answering.cancel(list(running.underway.row_ids))

    def run(
        self,
        task_id: str,
        task: Task,
        items: Any,
        options: Any,
        *,
        entry: str = "",
        interactive: bool,
    ) -> list[Result] | None:
        """One result for each item, in order; raises nothing that an item could cause.

        With an `entry` the chunk is a job of the ledger, which says what is asked. None where there
        is nothing to store: somebody else is at it, or nobody wants it any more.
        """
        with self._lock:
            first = self._running.get(task_id)
            if first is None:
                mine = self._running[task_id] = _Running()
        if first is not None:
            # What the ledger knows is safe without this message.
            return None if entry else first.results.result()
        results: list[Result] | None = None
        try:
            results = self._run(mine, task_id, task, items, options, entry, interactive)
        finally:
            with self._lock:
                del self._running[task_id]
            mine.results.set_result(results)
        return results

    def _run(
        self,
        mine: _Running,
        task_id: str,
        task: Task,
        items: Any,
        options: Any,
        entry: str,
        interactive: bool,
    ) -> list[Result] | None:
        begun = self._begin(task_id, entry)
        if begun.outcome is not None:
            return begun.outcome.results
        if not begun.run:
            return None
        mine.begun = True
        if begun.payload is not None:
            items, options = begun.payload["items"], begun.payload["options"]
        if not isinstance(items, list) or not 0 < len(items) <= MAX_CHUNK_ITEMS:
            about = f"items: a list of 1 to {MAX_CHUNK_ITEMS} objects is needed"
            return [contract.failure(ErrorCode.OPTION_INVALID, about)]
        # Of a chunk that is asked again some items have their results already.
        kept = [_kept(item) if begun.payload is not None else None for item in items]
        asked = [item for item, result in zip(items, kept, strict=True) if result is None]
        try:
            _check_begun(begun)
            terms = read_options(options, interactive)
        except ItemRejected as refusal:
            fresh = [refusal.result] * len(asked)
        else:
            work = _Work(mine, task_id, task, terms)
            alone = begun.attempts > WHOLE_ATTEMPTS
            fresh = self._one_by_one(work, asked, begun) if alone else self._answer(work, asked)
        left = iter(fresh)
        results = [next(left) if result is None else result for result in kept]
        return _named(items, results)

    def _begin(self, task_id: str, entry: str) -> Claim:
        """Wait out a Redis that is full or away: nothing that it says is the fault of an item."""
        while True:
            try:
                return self._ledger.claim(task_id, entry)
            except redis.RedisError as error:
                if not is_transient(error):
                    raise
                log.warning("Redis: %s; trying again in %g s", error, REDIS_PAUSE_S)
                time.sleep(REDIS_PAUSE_S)

    def _answer(self, work: _Work, items: list[Any]) -> list[Result]:
        try:
            return self._answering.answer(work.task, items, work.terms, work.mine.underway)
        except Exception as error:
            log.exception("chunk %s failed", work.task_id)
            about = f"{type(error).__name__}: {error}"
            return [contract.failure(ErrorCode.INTERNAL, about)] * len(items)

    def _one_by_one(self, work: _Work, items: list[Any], begun: Claim) -> list[Result]:
        """One of these items may have killed earlier consumers; the ledger knows which is tried."""
        suspects = begun.suspects
        results = []
        for place, item in enumerate(items):
            deaths = suspects.get(place, 0)
            if deaths >= MAX_DEATHS:
                about = f"{deaths} consumers died while they had this item alone"
                results.append(contract.failure(ErrorCode.POISONED, about))
                continue
            self._suspect(work.task_id, {**suspects, place: deaths + 1})
            results += self._answer(work, [item])
        self._suspect(work.task_id, suspects)
        return results

    def _suspect(self, task_id: str, suspects: dict[int, int]) -> None:
        # Without it one may die once more: no reason to stop work.
        with suppress(redis.RedisError):
            self._ledger.mark_suspect(task_id, suspects)


def _check_begun(begun: Claim) -> None:
    if begun.cancelled:
        raise ItemRejected(ErrorCode.CANCELLED, "cancelled before it was begun")
    if begun.attempts > MAX_ATTEMPTS:
        about = f"begun {MAX_ATTEMPTS} times, and whoever began it died before it ended"
        raise ItemRejected(ErrorCode.POISONED, about)


def _kept(item: Any) -> Result | None:
    kept = item.get("result") if isinstance(item, dict) else None
    return kept if isinstance(kept, dict) else None


def _named(items: list[Any], results: list[Result]) -> list[Result]:
    """Results with the custom ids of their items."""
    return [
        {"custom_id": item["custom_id"][: contract.MAX_CUSTOM_ID_CHARS], **result}
        if isinstance(item, dict) and isinstance(item.get("custom_id"), str)
        else result
        for item, result in zip(items, results, strict=True)
    ]
