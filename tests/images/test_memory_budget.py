from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from worker.images.memory_budget import MAX_PASSES, MemoryBudget

WAIT_S = 30


class Guest:
    """A thread that stays in a room until it is told to leave."""

    def __init__(self, room: MemoryBudget, needed: int) -> None:
        self.inside = threading.Event()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._stay, args=(room, needed), daemon=True)
        self._thread.start()

    def _stay(self, room: MemoryBudget, needed: int) -> None:
        with room.of(needed):
            self.inside.set()
            self._leave.wait(WAIT_S)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


def waiting(room: MemoryBudget) -> int:
    return len(room._waiting)


def until(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(WAIT_S * 100):
        if true():
            return
        pause.wait(0.01)
    pytest.fail("never came")


def test_who_finds_no_room_waits_until_there_is_some() -> None:
    room = MemoryBudget(100)
    first, second = Guest(room, 60), Guest(room, 60)
    until(lambda: waiting(room) == 1)
    assert first.inside.is_set() != second.inside.is_set()
    inside, outside = (first, second) if first.inside.is_set() else (second, first)
    inside.leave()
    assert outside.inside.wait(WAIT_S)
    outside.leave()


def test_who_needs_more_than_all_of_it_gets_all_of_it() -> None:
    room = MemoryBudget(100)
    with room.of(1000):
        small = Guest(room, 1)
        until(lambda: waiting(room) == 1)
        assert not small.inside.is_set()
    assert small.inside.wait(WAIT_S)
    small.leave()


def test_small_needs_pass_a_large_one_that_waits_but_not_for_ever() -> None:
    room = MemoryBudget(100)
    first = Guest(room, 50)
    assert first.inside.wait(WAIT_S)
    large = Guest(room, 80)
    until(lambda: waiting(room) == 1)
    for _ in range(MAX_PASSES):
        with room.of(10):
            assert not large.inside.is_set()
    late = Guest(room, 10)
    until(lambda: waiting(room) == 2)
    assert not late.inside.is_set()
    first.leave()
    assert large.inside.wait(WAIT_S)
    assert late.inside.wait(WAIT_S)
    large.leave()
    late.leave()


def test_an_error_inside_gives_the_room_back() -> None:
    room = MemoryBudget(100)
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(ValueError, match="no image"))
        with room.of(100):
            raise ValueError("no image")
    with room.of(100):
        pass


def test_who_waits_until_a_moment_leaves_then_and_lets_others_in() -> None:
    room = MemoryBudget(100)
    with room.of(90):
        with pytest.raises(TimeoutError):
            room.take(20, until=time.monotonic() + 0.05)
        assert waiting(room) == 0
        with room.of(10):
            pass


def test_who_does_not_wait_gets_what_is_free_or_nothing() -> None:
    room = MemoryBudget(100)
    assert not room.take_now(101)
    assert room.take_now(60)
    assert not room.take_now(41)
    assert room.take_now(40)
    room.give(100)
    with room.of(100):
        pass
