"""Thread pools of one client, for calls of its blocking methods from event loops."""

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

#: Kind of a call by its longest wait: one round trip ("call"), many round trips over a whole batch
#: ("long"), capacity or further items ("submit"); "look" is the look-up of awaited jobs, "probe" a
#: health check or a scrape, which must not wait behind calls that ride out an outage.
Kind = Literal["call", "long", "submit", "look", "probe"]

#: Maximum threads of each kind; a kind cannot use the threads of another kind.
THREADS: Final[dict[Kind, int]] = {"call": 8, "long": 2, "submit": 32, "look": 1, "probe": 3}

#: Maximum seconds that `close` waits for calls: a submission may wait for capacity or items
#: without a limit.
CLOSE_S: Final = 5.0


class ThreadPools:
    """Thread pools that the rest of the program does not use, one for each kind of call."""

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
        """Call a function in a thread, with the context variables of this task."""
        self.check_open()
        # A forked child inherits its parent's pools, but none of their threads.
        key = (os.getpid(), kind)
        if key not in self._pools:
            self._pools[key] = ThreadPoolExecutor(THREADS[kind], f"blipline-{kind}")
        call = partial(copy_context().run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pools[key], call)

    def check_open(self) -> None:
        """Raise ConnectionFailed after `close`."""
        if self.closed:
            raise client_closed()

    async def close(self, then: Callable[[], None]) -> None:
        """Wait for all calls, up to CLOSE_S seconds; call `then` after the last of them."""
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


def client_closed() -> ConnectionFailed:
    """Return the error of a call that starts, or still waits, after `close`."""
    return ConnectionFailed("this AsyncClient was closed; submitted jobs continue")
