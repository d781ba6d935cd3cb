"""The chunk runner, which claims a delivered chunk, processes its items and returns the results."""

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
from producer.connection.outage import is_transient
from producer.contract import (
    MAX_ATTEMPTS,
    MAX_CHUNK_ITEMS,
    MAX_DEATHS,
    WHOLE_ATTEMPTS,
    ErrorCode,
    ItemResult,
    Queue,
    Task,
)
from producer.ledger.aborts import earlier_result, with_custom_ids
from producer.ledger.leases import Leases, Run
from producer.ledger.records import Claim
from producer.observability.logs import log_context
from worker.consumer.chunk_log import ids_of, log_chunk
from worker.consumer.chunk_options import ChunkOptions, read_options
from worker.consumer.item_handler import ChunkState, ItemHandler
from worker.consumer.metrics import ConsumerMetrics
from worker.errors import ItemRejected

log = logging.getLogger(__name__)

#: Seconds between attempts of a claim while Redis is unavailable.
REDIS_PAUSE_S: Final = 1.0
#: Seconds between attempts of a claim while another consumer runs the same chunk.
BUSY_PAUSE_S: Final = 0.5


@dataclass(slots=True)
class _RunningChunk:
    """A chunk in progress; a second delivery of its message waits for the same results."""

    results: Future[list[ItemResult] | None] = field(default_factory=Future)
    state: ChunkState = field(default_factory=ChunkState)
    #: True once this consumer has the lease. An earlier heartbeat would claim the chunk.
    claimed: bool = False


@dataclass(frozen=True, slots=True)
class _ClaimedChunk:
    """The checked parts of a chunk that this consumer has claimed."""

    task_id: str
    task: Task
    options: ChunkOptions
    state: ChunkState


class ChunkRunner:
    """The chunk runner of a consumer process; thread-safe."""

    def __init__(
        self, leases: Leases, handler: ItemHandler, metrics: ConsumerMetrics | None = None
    ) -> None:
        self._leases = leases
        self._metrics = metrics or ConsumerMetrics()
        self._handler = handler
        self._lock = threading.Lock()
        #: By id and generation: a cancelled job may be queued again before its first run has ended.
        self._running: dict[Run, _RunningChunk] = {}

    @property
    def running(self) -> list[Run]:
        """The chunks that this consumer has claimed and not finished."""
        with self._lock:
            return [run for run, chunk in self._running.items() if chunk.claimed]

    def cancel(self, run: Run) -> None:
        """Cancel the rows of a chunk if it runs here."""
        with self._lock:
            chunk = self._running.get(run)
        if chunk is not None:
            chunk.state.cancelled = True
            self._handler.cancel(list(chunk.state.row_ids))

    def run(
        self,
        task_id: str,
        task: Task,
        items: Any,
        options: Any,
        *,
        generation: str = "",
        started_at: float | None = None,
        interactive: bool,
        state: ChunkState | None = None,
    ) -> list[ItemResult] | None:
        """Return one result for each item, in order; items raise no exception.

        With a `generation`, the chunk is a job of the ledger, whose record contains the payload.
        `started_at` is the start that clients see (Unix s); None means now.
        Returns None if another consumer runs the chunk, which stores the results, and an empty list
        if it was deleted or replaced. `state` receives the chunk's progress.
        """
        run = task_id, generation
        with self._lock:
            first = self._running.get(run)
            if first is None:
                chunk = self._running[run] = _RunningChunk(state=state or ChunkState())
        if first is not None:
            # The record of a ledger job gets its result from the first delivery.
            return None if generation else first.results.result()
        results: list[ItemResult] | None = None
        try:
            claim = self._claim(task_id, generation, started_at)
            results = self._run(chunk, claim, task_id, task, items, options, interactive)
        finally:
            with self._lock:
                del self._running[run]
            chunk.results.set_result(results)
        return results

    def _run(
        self,
        chunk: _RunningChunk,
        claim: Claim,
        task_id: str,
        task: Task,
        items: Any,
        options: Any,
        interactive: bool,
    ) -> list[ItemResult] | None:
        if claim.outcome is not None:
            return claim.outcome.results
        if not claim.run:
            return None if claim.busy else []
        chunk.claimed, chunk.state.task_id = True, task_id
        queue = Queue.INTERACTIVE if interactive else Queue.BULK
        self._metrics.start_job(queue, claim.waited_s, claim.attempts)
        if chunk.state.trace is not None:
            chunk.state.trace.start(task_id, task, claim.waited_s)
        started = time.monotonic()
        with log_context(**ids_of(task_id)):
            results = self._answer_claimed(chunk, claim, task, items, options, queue)
            log_chunk(task, queue, claim, results, time.monotonic() - started)
        return results

    def _answer_claimed(
        self,
        chunk: _RunningChunk,
        claim: Claim,
        task: Task,
        items: Any,
        options: Any,
        queue: Queue,
    ) -> list[ItemResult]:
        started, interactive = time.monotonic(), queue is Queue.INTERACTIVE
        if claim.payload is not None:
            items, options = claim.payload["items"], claim.payload["options"]
        if not isinstance(items, list) or not 0 < len(items) <= MAX_CHUNK_ITEMS:
            message = f"items: must be a list of 1 to {MAX_CHUNK_ITEMS} objects"
            return [contract.failure(ErrorCode.OPTION_INVALID, message)]
        # A requeued chunk carries the results of the items that succeeded before.
        earlier = [earlier_result(item) if claim.payload is not None else None for item in items]
        pending = [item for item, result in zip(items, earlier, strict=True) if result is None]
        try:
            _check_claim(claim)
            checked_options = read_options(options, interactive, claim.time, claim.deadline)
            checked = _ClaimedChunk(chunk.state.task_id, task, checked_options, chunk.state)
        except ItemRejected as error:
            fresh = [error.result] * len(pending)
        else:
            fresh = (
                self._answer_one_by_one(checked, pending, claim.suspects)
                if claim.attempts > WHOLE_ATTEMPTS
                else self._answer(checked, pending)
            )
        self._metrics.end_job(task, queue, fresh, claim.waited_s, time.monotonic() - started)
        new_results = iter(fresh)
        results = [next(new_results) if result is None else result for result in earlier]
        return with_custom_ids(items, results)

    def _claim(self, task_id: str, generation: str, started_at: float | None) -> Claim:
        """Claim the chunk; wait while Redis is full or unavailable.

        Also wait while another consumer runs a chunk without a record. Celery delivers such a
        message twice when the clocks of two workers differ, or a connection was lost. This delivery
        may be the only copy that survives the other consumer.
        """
        while True:
            try:
                claim = self._leases.claim(task_id, generation, started_at)
                if generation or not claim.busy:
                    return claim
                time.sleep(BUSY_PAUSE_S)
            except redis.RedisError as error:
                if not is_transient(error):
                    raise
                log.warning("Redis: %s; retrying in %g s", error, REDIS_PAUSE_S)
                time.sleep(REDIS_PAUSE_S)

    def _answer(self, chunk: _ClaimedChunk, items: list[Any]) -> list[ItemResult]:
        try:
            return self._handler.answer(chunk.task, items, chunk.options, chunk.state)
        except Exception as error:
            log.exception("chunk %s failed", chunk.task_id)
            message = f"{type(error).__name__}: {error}"
            return [contract.failure(ErrorCode.INTERNAL, message)] * len(items)

    def _answer_one_by_one(
        self, chunk: _ClaimedChunk, items: list[Any], suspects: dict[int, int]
    ) -> list[ItemResult]:
        """Process each item separately, recorded as the suspect: one may have killed consumers."""
        results: list[ItemResult] = []
        for index, item in enumerate(items):
            deaths = suspects.get(index, 0)
            if deaths >= MAX_DEATHS:
                message = f"{deaths} consumers died while they processed only this item"
                results.append(contract.failure(ErrorCode.POISONED, message))
                continue
            self._mark_suspect(chunk.task_id, {**suspects, index: deaths + 1})
            results += self._answer(chunk, [item])
        self._mark_suspect(chunk.task_id, suspects)
        return results

    def _mark_suspect(self, task_id: str, suspects: dict[int, int]) -> None:
        # Without the mark, one more consumer may die; that is no reason to stop working.
        with suppress(redis.RedisError):
            self._leases.mark_suspect(task_id, suspects)


def _check_claim(claim: Claim) -> None:
    if claim.cancelled:
        raise ItemRejected(ErrorCode.CANCELLED, "cancelled before it started")
    if claim.attempts > MAX_ATTEMPTS:
        message = f"started {MAX_ATTEMPTS} times; its consumer died each time"
        raise ItemRejected(ErrorCode.POISONED, message)
