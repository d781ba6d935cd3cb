"""A fake worker: it ends every open job of a Redis in the background."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger
from tests.conftest import Finish

from .samples import DESCRIPTION, FILTERED

#: Returns the output of an item of a task.
Answer = Callable[[str, dict[str, Any]], dict[str, Any]]
#: Receives the payload of each job.
Observe = Callable[[dict[str, Any]], None]


def output_of(task: str, item: dict[str, Any]) -> dict[str, Any]:
    """Return an output of the item's task."""
    task = item.get("task") or task
    if task == "embed":
        return {"embedding": [0.6, 0.8]}
    if task == "match":
        matches = [{"text": str(text), "probability": 1.0, "cosine": 0.1} for text in "ab"]
        return {"text": "a", "matches": matches}
    if task == "describe":
        return dict(DESCRIPTION)
    if task == "capfilt":
        return dict(FILTERED)
    return {"text": "a cat"}


@contextmanager
def running_fake_worker(
    connection: redis.Redis,
    finish: Finish,
    answer: Answer = output_of,
    observe: Observe = lambda payload: None,
) -> Iterator[None]:
    """End all jobs within the block."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            _end_all(connection, finish, answer, observe)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _end_all(connection: redis.Redis, finish: Finish, answer: Answer, observe: Observe) -> None:
    open_names: Any = connection.zrange(Keys().open, 0, -1)
    for record in Ledger(connection).records([name.decode() for name in open_names]):
        if record is None:
            continue
        payload = json.loads(record.payload)
        observe(payload)
        finish(record.id, [_result(payload["task"], item, answer) for item in payload["items"]])


def _result(task: str, item: dict[str, Any], answer: Answer) -> dict[str, Any]:
    known = {"custom_id": item["custom_id"]} if "custom_id" in item else {}
    return known | ({"error": item["error"]} if "error" in item else answer(task, item))


class Recorder:
    """A fake worker's answers, and the jobs that it has received."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, dict[str, Any]]] = []
        self.options: list[dict[str, Any]] = []
        self.answer: Answer = lambda task, item: {"text": f"answer to {item.get('question', '')}"}

    def __call__(self, task: str, item: dict[str, Any]) -> dict[str, Any]:
        self.jobs.append((task, item))
        return self.answer(task, item)

    def observe(self, payload: dict[str, Any]) -> None:
        self.options.append(payload["options"])


@pytest.fixture
def worker(connection: redis.Redis, finish: Finish) -> Iterator[Recorder]:
    """Yield a fake worker that ends every job."""
    recorder = Recorder()
    with running_fake_worker(connection, finish, recorder, recorder.observe):
        yield recorder
