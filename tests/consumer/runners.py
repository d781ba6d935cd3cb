"""Chunk runners for the tests of a consumer, and calls to them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import redis
from PIL import Image

from producer.contract import Task
from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from producer.ledger.ledger import Ledger
from worker.consumer.chunks import ChunkRunner
from worker.consumer.maintenance import Maintenance

KEYS = Keys()
#: `start(*engine_options)`: a runner; those with equal options share an engine process.
StartRunner = Callable[..., AbstractContextManager[ChunkRunner]]


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


def run_captions(
    runner: ChunkRunner, items: Any, options: Any = None, task_id: str = "t"
) -> list[Any]:
    """Run a chunk whose message carries its items."""
    results = runner.run(task_id, Task.CAPTION, items, options, interactive=False)
    assert results is not None
    return results


def run_item(
    runner: ChunkRunner, task: Task, item: dict[str, Any], task_id: str, **options: Any
) -> Any:
    """Run a chunk of one item and return its result."""
    results = runner.run(task_id, task, [item], options, interactive=True)
    assert results is not None
    (result,) = results
    return result


def run_job(connection: redis.Redis, runner: ChunkRunner, task_id: str) -> Any:
    """Run a job of the ledger, as its message does."""
    (record,) = Ledger(connection).records([task_id])
    generation = record.generation if record is not None else "gone"
    return runner.run(task_id, Task.CAPTION, None, None, generation=generation, interactive=True)


def codes(results: list[Any]) -> list[str]:
    return [result["error"]["code"] if "error" in result else "ok" for result in results]


@contextmanager
def maintained(runner: ChunkRunner, leases: Leases) -> Iterator[None]:
    """Send heartbeats and apply cancellations, as a consumer does."""
    maintenance = Maintenance(leases, runner, sweep_s=0)
    maintenance.start()
    yield
    maintenance.stop()
