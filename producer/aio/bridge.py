"""The bridge between a submission in a thread and an event loop, for items and the callback."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from itertools import chain
from typing import Any, Final, TypeVar

from ..ledger.batch_items import ItemSource

#: Maximum items read at once from an async iterable.
READ_ITEMS: Final = 1024
#: Maximum seconds that one read occupies the event loop.
READ_S: Final = 0.005

#: The items of a batch; a plain iterable is read in the submission's thread.
Items = Iterable[ItemSource] | AsyncIterable[ItemSource]

Answer = TypeVar("Answer")


class BridgeClosed(Exception):
    """The submission was cancelled on the event loop."""


class LoopBridge:
    """A bridge that is created on the event loop, and used by one thread.

    The thread reads up to `read_items` items at once; if it is 1, no item waits for the next one.
    """

    def __init__(self, read_items: int = READ_ITEMS) -> None:
        self._read_items = read_items
        self._loop = asyncio.get_running_loop()
        #: The call that the thread waits for.
        self._call: concurrent.futures.Future[Any] | None = None
        #: The error of the async iterable, raised after the items before it.
        self._error: Exception | None = None
        self._stopped = False

    def stop(self) -> None:
        """Raise BridgeClosed in the thread at its next use of the bridge; thread-safe."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()

    def items(self, source: Items) -> Iterator[ItemSource]:
        """Yield the items of either kind of iterable."""
        groups = self._groups(source) if isinstance(source, AsyncIterable) else (source,)
        for item in chain.from_iterable(groups):
            if self._stopped:
                raise BridgeClosed
            yield item

    def on_loop(self, callback: Callable[[int], None]) -> Callable[[int], None]:
        """Return a function for the thread that runs the callback on the event loop."""

        async def call(total: int) -> None:
            callback(total)

        return lambda total: self._run(call(total))

    def _groups(self, source: AsyncIterable[ItemSource]) -> Iterator[list[ItemSource]]:
        stream = aiter(source)
        while group := self._run(self._read(stream)):
            yield group

    def _run(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        """Run a coroutine on the event loop, and wait for its result."""
        call = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        self._call = call
        if self._stopped:
            # `stop` may have run before this call existed.
            call.cancel()
        try:
            return call.result()
        except concurrent.futures.CancelledError:
            if self._stopped:
                raise BridgeClosed from None
            raise

    async def _read(self, stream: AsyncIterator[ItemSource]) -> list[ItemSource]:
        """Return the items that arrive within READ_S; none at the end of the stream."""
        if self._error is not None:
            raise self._error
        items: list[ItemSource] = []
        deadline = time.monotonic() + READ_S
        try:
            async for item in stream:
                items.append(item)
                if len(items) == self._read_items or time.monotonic() >= deadline:
                    break
        except Exception as error:
            if not items:
                raise
            self._error = error
        return items
