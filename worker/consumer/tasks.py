"""The Celery tasks, thin wrappers of `ChunkRunner`, which handles every error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from celery import Celery, states
from celery import Task as CeleryTask
from celery.exceptions import Ignore

from producer.contract import Queue, Task
from worker.consumer.chunk_results import ChunkResults, all_cancelled
from worker.consumer.chunks import ChunkRunner
from worker.consumer.item_handler import ChunkState
from worker.consumer.request import ChunkRevoked, LedgerRequest, ledger_generation
from worker.consumer.tracing import chunk_trace


def register(app: Celery, runner: Callable[[], ChunkRunner]) -> None:
    """Register every task of the contract with the app; each call uses `runner()`."""
    for task in Task:
        app.task(
            _task(task, runner),
            bind=True,
            name=task.value,
            resultrepr_maxsize=400,
            Request=LedgerRequest,
        )


def _task(task: Task, runner: Callable[[], ChunkRunner]) -> Callable[..., Any]:
    def run(self: CeleryTask, items: Any = None, options: Any = None) -> ChunkResults:
        request, state = self.request, ChunkState()
        # The result backend stores the time with the result.
        request.started_at = round(time.time(), 3)
        queue = (request.delivery_info or {}).get("routing_key")
        trace = state.trace = request.chunk_trace = chunk_trace(request)
        results = runner().run(
            request.id,
            task,
            items,
            options,
            generation=ledger_generation(request),
            started_at=request.started_at,
            interactive=queue == Queue.INTERACTIVE,
            state=state,
        )
        if results is None:
            if trace is not None:
                trace.end()
            # Acknowledge without a result: another consumer stores it.
            raise Ignore
        if all_cancelled(results):
            if results:
                self.backend.store_result(request.id, results, states.SUCCESS, request=request)
            if trace is not None:
                trace.end()
            raise ChunkRevoked
        return ChunkResults(results, state)

    run.__name__ = task.short
    return run
