"""No host takes all threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait

import pytest

from producer.net.host_limiter import HostLimiter


@pytest.fixture
def turns() -> Iterator[HostLimiter[str]]:
    turns: HostLimiter[str] = HostLimiter(threads=4, per_host=2)
    yield turns
    turns.close()


def test_a_slow_host_leaves_threads_to_others(turns: HostLimiter[str]) -> None:
    # Given more work of a silent host than there are threads
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow() -> str:
        begun.release()
        go_on.wait(60)
        return "slow"

    silent = [turns.submit("silent", slow) for _ in range(20)]
    # When another is asked, Then it answers, though it came last
    assert [turns.submit("other", lambda: "fast").result(30) for _ in range(20)] == ["fast"] * 20
    # And of the silent one two run
    assert begun.acquire(timeout=30)
    assert begun.acquire(timeout=30)
    assert not begun.acquire(blocking=False)
    go_on.set()
    assert {one.result(30) for one in silent} == {"slow"}


def test_all_work_is_done_in_its_order_and_never_more_at_once_than_allowed(
    turns: HostLimiter[str],
) -> None:
    lock, running, most, order = threading.Lock(), 0, 0, []

    def work(number: int) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            order.append(number)
        threading.Event().wait(0.001)
        with lock:
            running -= 1
        return str(number)

    futures = [turns.submit("host", lambda number=number: work(number)) for number in range(100)]
    assert [one.result(30) for one in futures] == [str(number) for number in range(100)]
    assert most <= 2
    # Two at a time may overtake each other at the beginning.
    assert all(abs(number - place) <= 2 for place, number in enumerate(order))
    # Nothing is left behind of a host that is done.
    assert not turns._waiting


def test_an_error_reaches_who_waits_and_takes_no_turn(turns: HostLimiter[str]) -> None:
    def fail() -> str:
        raise KeyError("no")

    for _ in range(10):
        with pytest.raises(KeyError):
            turns.submit("host", fail).result(30)
    assert turns.submit("host", lambda: "fine").result(30) == "fine"


def test_cancelled_work_does_not_run_and_takes_no_turn(turns: HostLimiter[str]) -> None:
    go_on, ran = threading.Event(), []
    busy = [turns.submit("host", lambda: str(go_on.wait(60))) for _ in range(2)]
    waiting = [turns.submit("host", lambda: ran.append(1) or "ran") for _ in range(5)]
    assert all(one.cancel() for one in waiting)
    last = turns.submit("host", lambda: "last")
    go_on.set()
    assert last.result(30) == "last"
    assert not ran
    wait(busy, 30)


def test_closing_ends_the_wait_of_all() -> None:
    turns: HostLimiter[str] = HostLimiter(threads=1, per_host=1)
    go_on, begun = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        go_on.wait(60)
        return "done"

    running = turns.submit("a", slow)
    assert begun.wait(30)
    queued, waiting = turns.submit("b", lambda: "b"), turns.submit("a", lambda: "a")
    turns.close()
    go_on.set()
    assert running.result(30) == "done"
    for future in (queued, waiting):
        with pytest.raises(CancelledError):
            future.result(30)
    with pytest.raises(RuntimeError):
        turns.submit("a", lambda: "late")
