"""Backpressure: repeated attempts at a write while a queue, the image store or Redis is full."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Literal

from ..connection.connect import redis_errors
from ..errors import QueueFull
from ..polling import PollSchedule
from .redis_memory import RedisMemory
from .worker_watch import WorkerWatch

#: Maximum seconds between two attempts.
MAX_DELAY_S: Final = 0.5

#: Behaviour while there is no capacity.
WhenFull = Literal["wait", "raise"]


class Backpressure:
    """An iterator over attempts, with growing delays, that ends after the first success.

    ::

        for attempt in Backpressure(memory, redis_url, when_full, on_wait, watch):
            with attempt:
                ...  # raises QueueFull while there is no capacity

    With `when_full` "raise" the first QueueFull leaves the loop. With "wait" the iterator calls
    `on_wait`, which may raise, before each delay, and `watch` reports that no worker frees
    capacity. A Redis that is short of memory counts as full; no write is attempted. Other errors of
    redis-py become ConnectionFailed.
    """

    def __init__(
        self,
        memory: RedisMemory,
        redis_url: str,
        when_full: WhenFull,
        on_wait: Callable[[], None],
        watch: WorkerWatch | None = None,
    ) -> None:
        self._memory = memory
        self._redis_url = redis_url
        self._when_full = when_full
        self._on_wait = on_wait
        self._watch = watch
        #: True if the current attempt found no capacity.
        self._is_full = False

    def __iter__(self) -> Iterator[AbstractContextManager[None]]:
        schedule = PollSchedule(None, MAX_DELAY_S)
        while True:
            self._is_full = False
            with self._attempt():
                if (shortage := self._memory.shortage()) is not None:
                    raise QueueFull(f"{shortage}: try again later")
            if not self._is_full:
                yield self._attempt()
            if not self._is_full:
                return
            self._on_wait()
            if self._watch is not None:
                self._watch.look(schedule.waited_s())
            schedule.pause()

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        try:
            with redis_errors(self._redis_url):
                yield
        except QueueFull:
            if self._when_full == "raise":
                raise
            self._is_full = True
