"""Calls of Redis, for what runs on the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ..aio.thread_pools import ThreadPools
from ..connection.connect import redis_errors

P = ParamSpec("P")
R = TypeVar("R")


class RedisCalls:
    """Makes each call in a thread."""

    def __init__(self, threads: ThreadPools, redis_url: str) -> None:
        self._threads = threads
        self._redis_url = redis_url

    async def run(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """What it gives; raises ConnectionFailed or QueueFull where Redis does not do it."""
        with redis_errors(self._redis_url):
            return await self._threads.run("call", call, *args, **kwargs)
