"""What a submission that runs in a thread wants of an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from itertools import chain
from typing import Any, Final, TypeVar

from ..ledger.submission import ItemSource

#: Items taken at once from an async iterable at most.
TAKE_ITEMS: Final = 1024
#: Seconds that taking them may keep others off the event loop.
TAKE_S: Final = 0.005

#: What a batch can be made of: a plain iterable is read in the submission's thread.
Items = Iterable[ItemSource] | AsyncIterable[ItemSource]

Answer = TypeVar("Answer")


class BridgeClosed(Exception):
    """Nobody wants the submission any more."""


class LoopBridge:
    """Made on the event loop, used by one thread.

    `take_items` are asked for at once at most: with 1, none waits for the next one.
    """

    def __init__(self, take_items: int = TAKE_ITEMS) -> None:
        self._take_items = take_items
        self._loop = asyncio.get_running_loop()
        self._asked: concurrent.futures.Future[Any] | None = None
        self._raised: Exception | None = None
        self._stopped = False

    def stop(self) -> None:
        """Raise FeedStopped in the thread as soon as it wants the next thing. From any thread."""
        self._stopped = True
        if self._asked is not None:
            self._asked.cancel()

    def items(self, source: Items) -> Iterator[ItemSource]:
        """The items, wherever they come from."""
        groups = self._groups(source) if isinstance(source, AsyncIterable) else (source,)
        for item in chain.from_iterable(groups):
            if self._stopped:
                raise BridgeClosed
            yield item

    def on_loop(self, callback: Callable[[int], None]) -> Callable[[int], None]:
        """The same for the thread to call; it runs on the event loop, where the caller lives."""

        async def call(total: int) -> None:
            callback(total)

        return lambda total: self._ask(call(total))

    def _groups(self, source: AsyncIterable[ItemSource]) -> Iterator[list[ItemSource]]:
        stream = aiter(source)
        while group := self._ask(self._take(stream)):
            yield group

    def _ask(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        asked = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        self._asked = asked
        if self._stopped:
            # `stop` may have come before there was this to cancel.
            asked.cancel()
        try:
            return asked.result()
        except concurrent.futures.CancelledError:
            if self._stopped:
                raise BridgeClosed from None
            raise

    async def _take(self, stream: AsyncIterator[ItemSource]) -> list[ItemSource]:
        """The next items, as many as come soon; none at the end."""
        if self._raised is not None:
            raise self._raised
        items: list[ItemSource] = []
        until = time.monotonic() + TAKE_S
        try:
            async for item in stream:
                items.append(item)
                if len(items) == self._take_items or time.monotonic() >= until:
                    break
        except Exception as error:
            # What came before it is in the batch.
            if not items:
                raise
            self._raised = error
        return items
