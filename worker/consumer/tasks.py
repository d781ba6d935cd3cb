"""The Celery tasks: thin, since everything that can go wrong is handled in `ChunkRunner`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery import Task as CeleryTask
from celery.exceptions import Ignore

from producer.contract import Queue, Task
from worker.consumer.chunks import ChunkRunner


def register(app: Celery, runner: Callable[[], ChunkRunner]) -> None:
    """Add every task of the contract to the app; `runner` is asked at each call."""
    for task in Task:
        app.task(_task(task, runner), bind=True, name=task.value, resultrepr_maxsize=400)


def _task(task: Task, runner: Callable[[], ChunkRunner]) -> Callable[..., Any]:
    def run(self: CeleryTask, items: Any = None, options: Any = None) -> list[dict[str, Any]]:
        request = self.request
        queue = (request.delivery_info or {}).get("routing_key")
        results = runner().run(
            request.id,
            task,
            items,
            options,
            entry=request.get("entry") or "",
            interactive=queue == Queue.INTERACTIVE,
        )
        if results is None:
            # Acknowledged without a result: somebody else stores it, or nobody wants it.
            raise Ignore
        return results

    run.__name__ = task.short
    return run
