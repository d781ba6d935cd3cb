"""Asynchronous handles on submitted jobs and batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, TypeVar

from ..batch import MAX_DELAY_S, Batch
from ..connection.outage import outage_limit
from ..contract import State
from ..job import Job, JobSnapshot, Result, final_text, has_ended, progress_of
from ..polling import PollSchedule
from ..results.result import JobProgress
from ..results.text_sequences import TextSequence
from ..results.text_stream import LOOK_UP_S, TextPart, TextParts
from .batching import unwrap
from .thread_pools import Kind

if TYPE_CHECKING:
    from .client import AsyncClient

#: Maximum results of a batch that a thread reads at once.
PAGE_RESULTS: Final = 1024

P = ParamSpec("P")
R = TypeVar("R")
Value = TypeVar("Value")
Sync = TypeVar("Sync", bound=Job[Any] | Batch)


class _Handle(Generic[Sync]):
    """A handle of the synchronous client, called in the thread pools of an AsyncClient."""

    def __init__(self, handle: Sync, client: AsyncClient) -> None:
        self.id = handle.id
        self._handle = handle
        self._client = client

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"


def _awaited(
    method: Callable[Concatenate[Sync, P], R], kind: Kind = "call"
) -> Callable[Concatenate[_Handle[Sync], P], Coroutine[Any, Any, R]]:
    """Return an awaitable method that calls a method of the synchronous handle."""

    @wraps(method)
    async def call(self: _Handle[Sync], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._client._threads.run(kind, method, self._handle, *args, **kwargs)

    return call


class AsyncJob(_Handle[Job[Value]]):
    """A handle on one submitted job; see Job."""

    cancel = _awaited(Job[Any].cancel)
    delete = _awaited(Job[Any].delete)
    note = _awaited(Job[Any].note)

    def with_sequences(self) -> AsyncJob[list[TextSequence]]:
        """Return a handle on the same job whose result is all its texts, with their scores."""
        return AsyncJob(self._handle.with_sequences(), self._client)

    async def stream(self, timeout: float | None = None) -> AsyncGenerator[TextPart, None]:
        """Yield the text while it grows as Job.stream does.

        Concurrent look-ups share round trips.
        """
        parts, schedule = TextParts(), PollSchedule(timeout, LOOK_UP_S)
        while True:
            text = await self._client._partial_text(self._handle)
            snapshot = await self._poll(0.0)
            if is_last := has_ended(snapshot):
                self._handle.value(snapshot, timeout)
                text = final_text(snapshot)
            if (part := parts.advance(text, is_final=is_last)) is not None:
                yield part
            if is_last:
                return
            if (delay_s := schedule.next_delay_s()) is None:
                self._handle.value(snapshot, timeout)
            await self._client._watch_workers(schedule.waited_s())
            await asyncio.sleep(delay_s or 0.0)

    async def status(self) -> State:
        """Return the state of the job. Concurrent look-ups share one round trip."""
        return (await self.look())[0]

    async def look(self, wait_s: float = 0.0) -> tuple[State, Result | None]:
        """Return the state, and the result of an ended job; wait up to `wait_s` seconds for it."""
        state, result, _ = await self.progress(wait_s)
        return state, result

    async def progress(self, wait_s: float = 0.0) -> JobProgress:
        """Return state, result and time of the start; wait up to `wait_s` seconds for the end."""
        return progress_of(await self._poll(wait_s))

    async def result(self, timeout: float | None = None) -> Value:
        """Wait for the result as Job.result does. Cancelling the wait does not cancel the job."""
        return self._handle.value(await self._poll(timeout), timeout)

    async def _poll(self, timeout: float | None) -> JobSnapshot:
        self._client._threads.check_open()
        return unwrap(await self._client._pollers.for_running_loop().add(self._handle, timeout))


class AsyncBatch(_Handle[Batch]):
    """A handle on one submitted batch; see Batch."""

    progress = _awaited(Batch.progress)
    page = _awaited(Batch.page)
    cancel = _awaited(Batch.cancel)
    retry_failed = _awaited(Batch.retry_failed, "long")
    close = _awaited(Batch.close)
    delete = _awaited(Batch.delete, "long")

    async def results(
        self, timeout: float | None = None, *, cursor: int = 0, as_completed: bool = False
    ) -> AsyncIterator[Result]:
        """Yield the result of every item as Batch.results does, a page at a time."""
        schedule = PollSchedule(timeout, MAX_DELAY_S)
        while True:
            with outage_limit(schedule.remaining_s() if timeout else None):
                page = await self.page(cursor, as_completed=as_completed, most=PAGE_RESULTS)
            for result in page.results:
                yield result
            cursor = page.cursor
            if page.over:
                return
            if page.results:
                schedule = PollSchedule(timeout, MAX_DELAY_S)
            elif (delay_s := schedule.next_delay_s()) is not None:
                await self._client._watch_workers(schedule.waited_s())
                # The wait must not occupy a thread that other calls need.
                await asyncio.sleep(delay_s)
            else:
                run = self._client._threads.run
                raise await run("call", self._handle._wait_timeout, timeout)
