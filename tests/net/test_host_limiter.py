"""HostLimiter: a per-host limit in a thread pool."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from functools import partial

import pytest

from producer.net.host_limiter import HostLimiter


@pytest.fixture
def limiter() -> Iterator[HostLimiter[str]]:
    limiter: HostLimiter[str] = HostLimiter(threads=4, per_host=2)
    yield limiter
    limiter.close()


def test_a_slow_host_leaves_threads_to_others(limiter: HostLimiter[str]) -> None:
    # Given more tasks of a silent host than threads
    started, go_on = threading.Semaphore(0), threading.Event()

    def slow() -> str:
        started.release()
        go_on.wait(60)
        return "slow"

    silent = [limiter.submit("silent", slow) for _ in range(20)]
    # When tasks of another host come last, Then they run
    assert [limiter.submit("other", lambda: "fast").result(30) for _ in range(20)] == ["fast"] * 20
    # And two tasks of the silent host run
    assert started.acquire(timeout=30)
    assert started.acquire(timeout=30)
    assert not started.acquire(blocking=False)
    go_on.set()
    assert {future.result(30) for future in silent} == {"slow"}


def test_tasks_of_a_host_run_in_order_and_within_its_limit(
    limiter: HostLimiter[str],
) -> None:
    lock, running, peak, order = threading.Lock(), 0, 0, []

    def work(number: int) -> str:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
            order.append(number)
        threading.Event().wait(0.001)
        with lock:
            running -= 1
        return str(number)

    futures = [limiter.submit("host", partial(work, number)) for number in range(100)]
    assert [future.result(30) for future in futures] == [str(number) for number in range(100)]
    assert peak <= 2
    # Two concurrent tasks may overtake each other at their start.
    assert all(abs(number - index) <= 2 for index, number in enumerate(order))
    # An idle host takes no memory.
    assert not limiter._waiting


def test_an_error_reaches_the_caller_and_frees_the_host(limiter: HostLimiter[str]) -> None:
    def fail() -> str:
        raise KeyError("no")

    for _ in range(10):
        with pytest.raises(KeyError):
            limiter.submit("host", fail).result(30)
    assert limiter.submit("host", lambda: "fine").result(30) == "fine"


def test_a_cancelled_task_does_not_run_and_takes_no_thread(limiter: HostLimiter[str]) -> None:
    go_on, ran = threading.Event(), list[str]()

    def run() -> str:
        ran.append("ran")
        return "ran"

    busy = [limiter.submit("host", lambda: str(go_on.wait(60))) for _ in range(2)]
    waiting = [limiter.submit("host", run) for _ in range(5)]
    assert all(future.cancel() for future in waiting)
    last = limiter.submit("host", lambda: "last")
    go_on.set()
    assert last.result(30) == "last"
    assert not ran
    wait(busy, 30)


def test_closing_cancels_all_waiting_tasks() -> None:
    limiter: HostLimiter[str] = HostLimiter(threads=1, per_host=1)
    go_on, started = threading.Event(), threading.Event()

    def slow() -> str:
        started.set()
        go_on.wait(60)
        return "done"

    running = limiter.submit("a", slow)
    assert started.wait(30)
    queued, waiting = limiter.submit("b", lambda: "b"), limiter.submit("a", lambda: "a")
    limiter.close()
    go_on.set()
    assert running.result(30) == "done"
    for future in (queued, waiting):
        with pytest.raises(CancelledError):
            future.result(30)
    with pytest.raises(RuntimeError):
        limiter.submit("a", lambda: "late")
