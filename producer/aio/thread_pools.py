"""Threads of one client's own, to call it from event loops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Final, Literal, ParamSpec, TypeVar

from ..errors import ConnectionFailed

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")

#: What a call may have to wait for: an answer of Redis alone; a great many of them, as it walks a
#: whole batch; also room in a queue, or items; or it is a look at what is awaited.
Kind = Literal["call", "long", "submit", "look"]

#: Threads for each kind, at most: none of them holds up another.
THREADS: Final[dict[Kind, int]] = {"call": 8, "long": 2, "submit": 32, "look": 1}

#: Seconds that closing waits for calls. A submission may wait for room, or for items, for as long
#: as it likes.
CLOSE_S: Final = 5.0


class ThreadPools:
    """Neither what else a program runs in threads holds these up, nor they that."""

    def __init__(self) -> None:
        self._pools: dict[tuple[int, Kind], ThreadPoolExecutor] = {}
        self.closed = False

    async def run(
        self,
        kind: Kind,
        function: Callable[Parameters, Answer],
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Answer:
        """Call a function, with the context variables of this task."""
        self.check_open()
        # A forked child has its parent's pools, but none of their threads.
        key = (os.getpid(), kind)
        if key not in self._pools:
            self._pools[key] = ThreadPoolExecutor(THREADS[kind], f"blipline-{kind}")
        call = partial(copy_context().run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pools[key], call)

    def check_open(self) -> None:
        """Raise ConnectionFailed once this is closed."""
        if self.closed:
            raise was_closed()

    async def close(self, then: Callable[[], None]) -> None:
        """Let all calls return, then make this one; after CLOSE_S seconds it is not waited for."""
        self.closed = True
        closer = ThreadPoolExecutor(1)
        closed = asyncio.get_running_loop().run_in_executor(closer, self._close, then)
        closer.shutdown(wait=False)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(closed), CLOSE_S)

    def _close(self, then: Callable[[], None]) -> None:
        for (process, _), pool in self._pools.items():
            if process == os.getpid():
                pool.shutdown()
        then()


def was_closed() -> ConnectionFailed:
    """For whoever waits, or asks, all the same."""
    return ConnectionFailed("this AsyncClient was closed; what was submitted goes on")
