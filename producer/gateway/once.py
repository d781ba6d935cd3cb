"""What many want at one moment is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from ..attendant import told

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Once(Generic[Key, Value]):
    """One task for all who want the same while it is under way; for one event loop."""

    def __init__(self) -> None:
        self._under_way: dict[Key, asyncio.Task[Value | Exception]] = {}

    async def get(self, key: Key, make: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """What `make` gives, or raises, to whoever was first to want it, and to all others."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(_outcome(make))
            task.add_done_callback(lambda _: self._under_way.pop(key))
        # Whoever hangs up does not take it from the others.
        return told(await asyncio.shield(task))

    def cancel(self) -> None:
        """Nobody wants any of it any more."""
        for task in self._under_way.values():
            task.cancel()


async def _outcome(make: Callable[[], Coroutine[Any, Any, Value]]) -> Value | Exception:
    # Nobody may be left to hear what it raises.
    try:
        return await make()
    except Exception as error:
        return error
