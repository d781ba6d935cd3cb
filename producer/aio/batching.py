"""One task of an event loop that answers all who wait there for the same kind of thing."""

from __future__ import annotations

import asyncio
import copy
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Answer = TypeVar("Answer")


class Batcher(ABC, Generic[Answer]):
    """Leaves nobody without an answer, whatever ends it. For one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._unanswered: set[asyncio.Future[Answer | Exception]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Attend until nobody waits."""
        self._task = self._loop.create_task(self._run())
        # Also where the task is cancelled, even before its first step.
        self._task.add_done_callback(lambda _: self._end(None))

    @property
    def running(self) -> bool:
        """Whether it still attends; one that has ended does not begin again."""
        return self._task is not None and not self._task.done()

    @abstractmethod
    async def process(self) -> None:
        """Answer until nobody waits; what it raises is everybody's answer."""

    def new_future(self) -> asyncio.Future[Answer | Exception]:
        """For one who waits; cancelling it is giving up."""
        found: asyncio.Future[Answer | Exception] = self._loop.create_future()
        self._unanswered.add(found)
        found.add_done_callback(self._unanswered.discard)
        return found

    async def _run(self) -> None:
        try:
            await self.process()
        except Exception as error:
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        """Answer whoever waits with an error; None cancels their waits."""
        for found in [one for one in self._unanswered if not one.done()]:
            if error is None:
                found.cancel()
            else:
                found.set_result(error)


Kind = TypeVar("Kind", bound=Batcher[Any])


class PerLoop(Generic[Kind]):
    """One attendant for each event loop, for as long as somebody waits there."""

    def __init__(self, make: Callable[[], Kind]) -> None:
        self._make = make
        self._found: dict[AbstractEventLoop, Kind] = {}

    def here(self) -> Kind:
        """The one of the loop that runs."""
        loop = asyncio.get_running_loop()
        found = self._found.get(loop)
        if found is None or not found.running:
            # Those of other loops that have ended are let go.
            others = list(self._found.items())
            self._found = {one: its for one, its in others if its.running}
            found = self._found[loop] = self._make()
            found.start()
        return found


def unwrap(answer: Answer | Exception) -> Answer:
    """What one who waited is given; raises where that is an exception."""
    if isinstance(answer, Exception):
        # Others may be told the same; what is raised has a traceback of its own.
        raise copy.copy(answer).with_traceback(answer.__traceback__) from answer.__cause__
    return answer


Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SingleFlight(Generic[Key, Value]):
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
        return unwrap(await asyncio.shield(task))

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
