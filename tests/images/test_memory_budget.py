"""The memory budget that threads share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from worker.images.memory_budget import MAX_OVERTAKES, MemoryBudget

WAIT_S = 30


class Holder:
    """A thread that holds a reservation until `leave`."""

    def __init__(self, budget: MemoryBudget, needed: int) -> None:
        self.acquired = threading.Event()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(budget, needed), daemon=True)
        self._thread.start()

    def _hold(self, budget: MemoryBudget, needed: int) -> None:
        with budget.reserve(needed):
            self.acquired.set()
            self._leave.wait(WAIT_S)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


def waiting(budget: MemoryBudget) -> int:
    return len(budget._waiters)


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(WAIT_S * 100):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("the condition never held")


def test_a_request_waits_until_memory_is_free() -> None:
    budget = MemoryBudget(100)
    first, second = Holder(budget, 60), Holder(budget, 60)
    until(lambda: waiting(budget) == 1)
    assert first.acquired.is_set() != second.acquired.is_set()
    holder, waiter = (first, second) if first.acquired.is_set() else (second, first)
    holder.leave()
    assert waiter.acquired.wait(WAIT_S)
    waiter.leave()


def test_a_request_for_more_than_the_total_gets_all_of_it() -> None:
    budget = MemoryBudget(100)
    with budget.reserve(1000):
        small = Holder(budget, 1)
        until(lambda: waiting(budget) == 1)
        assert not small.acquired.is_set()
    assert small.acquired.wait(WAIT_S)
    small.leave()


def test_small_requests_overtake_a_large_one_only_a_limited_number_of_times() -> None:
    budget = MemoryBudget(100)
    first = Holder(budget, 50)
    assert first.acquired.wait(WAIT_S)
    large = Holder(budget, 80)
    until(lambda: waiting(budget) == 1)
    for _ in range(MAX_OVERTAKES):
        with budget.reserve(10):
            assert not large.acquired.is_set()
    late = Holder(budget, 10)
    until(lambda: waiting(budget) == 2)
    assert not late.acquired.is_set()
    first.leave()
    assert large.acquired.wait(WAIT_S)
    assert late.acquired.wait(WAIT_S)
    large.leave()
    late.leave()


def test_an_error_releases_the_reservation() -> None:
    budget = MemoryBudget(100)
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(ValueError, match="no image"))
        with budget.reserve(100):
            raise ValueError("no image")
    with budget.reserve(100):
        pass


def test_a_wait_ends_at_its_deadline_and_lets_others_proceed() -> None:
    budget = MemoryBudget(100)
    with budget.reserve(90):
        with pytest.raises(TimeoutError):
            budget.acquire(20, deadline=time.monotonic() + 0.05)
        assert waiting(budget) == 0
        with budget.reserve(10):
            pass


def test_a_request_that_does_not_wait_gets_free_memory_or_nothing() -> None:
    budget = MemoryBudget(100)
    assert not budget.try_acquire(101)
    assert budget.try_acquire(60)
    assert not budget.try_acquire(41)
    assert budget.try_acquire(40)
    budget.release(100)
    with budget.reserve(100):
        pass
