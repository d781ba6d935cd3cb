"""The pool of a consumer: a message whose call fails outside of the task."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import concurrency

from worker.consumer import thread_pool
from worker.consumer.thread_pool import GuardedPool


class RecordingRequest:
    """A request, with the calls that a consumer would make to its message."""

    def __init__(self) -> None:
        self.acknowledged = False
        self.errors: list[Exception] = []
        self.message = SimpleNamespace(channel=self)

    def set_aside_message(self, message: Any, error: Exception) -> None:
        """Record the reason."""
        assert message is self.message
        self.errors.append(error)

    def acknowledge(self) -> None:
        """Record the acknowledgement."""
        self.acknowledged = True

    def on_success(self, result: Any) -> None:
        """Do nothing, as for a task whose result is ignored."""


def _fail(error: Exception) -> Callable[..., None]:
    def raise_error(*_: Any) -> None:
        raise error

    return raise_error


def _call(target: Callable[..., Any], accept: Callable[..., Any] | None = None) -> RecordingRequest:
    request, threads = RecordingRequest(), GuardedPool(1)
    threads.on_apply(target, (), {}, callback=request.on_success, accept_callback=accept)
    threads.on_stop()
    return request


@pytest.mark.parametrize("is_accepted", [True, False])
def test_a_message_that_celery_cannot_process_is_set_aside(is_accepted: bool) -> None:
    error = TypeError("'bool' object is not iterable")
    request = _call(_fail(error)) if is_accepted else _call(lambda: None, _fail(error))
    assert request.errors == [error]
    assert request.acknowledged


def test_a_message_is_delivered_again_after_an_outage() -> None:
    request = _call(_fail(redis.ConnectionError("Redis is away")))
    assert not request.errors
    assert not request.acknowledged


def test_a_processed_message_is_left_to_celery() -> None:
    request = _call(lambda: "result")
    assert not request.errors
    assert not request.acknowledged


@pytest.mark.parametrize("waiting", [1, 2, 5])
def test_a_pool_that_grew_starts_each_call_at_once(waiting: int) -> None:
    """Also after calls had to wait: the executor counts the threads that take them as idle."""
    pool, steps = GuardedPool(1), [threading.Event() for _ in range(waiting + 1)]
    started: list[threading.Event] = []

    def call(end: threading.Event) -> None:
        started.append(threading.Event())
        request = RecordingRequest()

        def run(begun: threading.Event) -> None:
            begun.set()
            assert end.wait(60)

        pool.on_apply(run, (started[-1],), {}, callback=request.on_success)

    for step in steps:
        call(step)
    for step in steps[:-1]:
        step.set()
    assert started[waiting].wait(60)
    pool.grow(2)
    ends = [threading.Event() for _ in range(2)]
    for end in ends:
        call(end)
    try:
        assert all(begun.wait(10) for begun in started)
    finally:
        for end in (*steps, *ends):
            end.set()
        pool.on_stop()


def test_consumers_use_this_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "ALIASES", dict(concurrency.ALIASES))
    thread_pool.install()
    assert concurrency.get_implementation("threads") is GuardedPool
