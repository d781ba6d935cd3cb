"""Redis calls from the event loop, run in a thread pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ...aio.thread_pools import ThreadPools
from ...connection.connect import redis_errors

P = ParamSpec("P")
R = TypeVar("R")


class RedisCalls:
    """A runner of blocking Redis calls in a thread pool."""

    def __init__(self, threads: ThreadPools, redis_url: str) -> None:
        self._threads = threads
        self._redis_url = redis_url

    async def run(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a call in a thread; raises ConnectionFailed, or QueueFull if Redis is full."""
        with redis_errors(self._redis_url):
            return await self._threads.run("call", call, *args, **kwargs)
