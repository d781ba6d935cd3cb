"""Single flight: concurrent requests for the same key share one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from .batching import unwrap

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SingleFlight(Generic[Key, Value]):
    """A group of calls that concurrent requests for the same key share; for one event loop."""

    def __init__(self) -> None:
        self._calls: dict[Key, asyncio.Task[Value | Exception]] = {}

    async def get(self, key: Key, call: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """Return or raise the outcome of the running call of this key, or of a new call."""
        task = self._calls.get(key)
        if task is None:
            task = self._calls[key] = asyncio.create_task(_catch(call))
            task.add_done_callback(lambda _: self._calls.pop(key))
        # Cancelling one caller does not cancel the shared call.
        return unwrap(await asyncio.shield(task))

    def cancel(self) -> None:
        """Cancel all running calls."""
        for task in self._calls.values():
            task.cancel()


async def _catch(call: Callable[[], Coroutine[Any, Any, Value]]) -> Value | Exception:
    # asyncio would log an error that no caller retrieves.
    try:
        return await call()
    except Exception as error:
        return error
