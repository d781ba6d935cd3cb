"""The client for programs on asyncio, such as FastAPI's: what Client does, awaitable.

There is one implementation, the synchronous one: its methods run in a few threads here, and what
they take, mean and raise is said there. Waiting for an answer holds no thread: one task looks for
all that are awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from functools import wraps
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar

from ..batch import LONGEST_PAUSE_S, Batch
from ..client import Client
from ..contract import State
from ..errors import WaitTimeout
from ..job import Job, JobSnapshot, Result, snapshot_all, state_and_result
from ..ledger.blobs import ImageSource
from ..ledger.publisher import WhenFull
from ..ledger.records import Depth
from ..ledger.submission import ItemSource
from ..polling import PollSchedule
from ..settings import ClientSettings
from .batching import PerLoop, unwrap
from .bridge import BridgeClosed, Items, LoopBridge
from .poller import JobPoller
from .submit_batcher import Call, SubmitBatcher, is_nonblocking, submit_all
from .thread_pools import Kind, ThreadPools, was_closed

#: Results of a batch that its thread hands over at once.
PAGE_RESULTS: Final = 1024

P = ParamSpec("P")
R = TypeVar("R")
Value = TypeVar("Value")
Sync = TypeVar("Sync", bound=Job[Any] | Batch)


class _Handle(Generic[Sync]):
    """A handle of the synchronous client, and the threads to call it in."""

    def __init__(self, handle: Sync, client: AsyncClient) -> None:
        self.id = handle.id
        self._handle = handle
        self._client = client

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"


def _awaited(
    method: Callable[Concatenate[Sync, P], R], kind: Kind = "call"
) -> Callable[Concatenate[_Handle[Sync], P], Coroutine[Any, Any, R]]:
    """A method of a handle, awaitable."""

    @wraps(method)
    async def call(self: _Handle[Sync], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._client._threads.run(kind, method, self._handle, *args, **kwargs)

    return call


class AsyncJob(_Handle[Job[Value]]):
    """One submitted job; see Job."""

    cancel = _awaited(Job[Any].cancel)
    note = _awaited(Job[Any].note)

    async def status(self) -> State:
        """Where the job stands. Looks of one moment are one round trip."""
        return (await self.look())[0]

    async def look(self, wait_s: float = 0.0) -> tuple[State, Result | None]:
        """Where the job stands, and how its item ended once it has; waits so long for its end."""
        return state_and_result(await self._watch(wait_s))

    async def result(self, timeout: float | None = None) -> Value:
        """Wait for the answer as Job.result does. Cancelling the wait leaves the job as it is."""
        return self._handle.value(await self._watch(timeout), timeout)

    async def _watch(self, timeout: float | None) -> JobSnapshot:
        self._client._threads.check_open()
        return unwrap(await self._client._watchers.here().add(self._handle, timeout))


class AsyncBatch(_Handle[Batch]):
    """One submitted batch; see Batch."""

    progress = _awaited(Batch.progress)
    page = _awaited(Batch.page)
    cancel = _awaited(Batch.cancel)
    retry_failed = _awaited(Batch.retry_failed, "long")
    close = _awaited(Batch.close)
    delete = _awaited(Batch.delete, "long")

    async def results(
        self, timeout: float | None = None, *, cursor: int = 0, as_completed: bool = False
    ) -> AsyncIterator[Result]:
        """Every item's result, as Batch.results gives them; read as fast as they are used up."""
        patience = PollSchedule(timeout, LONGEST_PAUSE_S)
        while True:
            page = await self.page(cursor, as_completed=as_completed, most=PAGE_RESULTS)
            for result in page.results:
                yield result
            cursor = page.cursor
            if page.over:
                return
            if page.results:
                patience = PollSchedule(timeout, LONGEST_PAUSE_S)
            elif (pause_s := patience.next_delay_s()) is not None:
                await asyncio.sleep(pause_s)
            else:
                # A thread is not held while there is nothing.
                run = self._client._threads.run
                raise WaitTimeout(await run("call", self._handle._waited, timeout))


def _submits(
    method: Callable[Concatenate[Client, P], Job[Value]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, AsyncJob[Value]]]:
    """A method that submits a job, awaitable."""

    @wraps(method)
    async def call(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncJob[Value]:
        if is_nonblocking(args, kwargs):
            self._threads.check_open()
            job = unwrap(
                await self._together.here().add(lambda client: method(client, *args, **kwargs))
            )
        else:
            kind: Kind = "submit" if kwargs.get("when_full") == "wait" else "call"
            job = await self._threads.run(kind, method, self._client, *args, **kwargs)
        return AsyncJob(job, self)

    return call


def _submits_batch(
    method: Callable[Concatenate[Client, Iterable[ItemSource], P], Batch],
) -> Callable[Concatenate[AsyncClient, Items, P], Coroutine[Any, Any, AsyncBatch]]:
    """A method that submits a batch, awaitable; the items may come asynchronously."""

    @wraps(method)
    async def call(
        self: AsyncClient, items: Items, /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncBatch:
        feed = LoopBridge()
        if callable(callback := kwargs.get("on_submitted")):
            kwargs["on_submitted"] = feed.on_loop(callback)
        self._feeds.add(feed)
        try:
            stream = feed.items(items)
            batch = await self._threads.run("submit", method, self._client, stream, *args, **kwargs)
        except BridgeClosed:
            raise was_closed() from None
        finally:
            # Who is cancelled here leaves the thread behind: it stops, and the batch is what is in.
            feed.stop()
            self._feeds.discard(feed)
        return AsyncBatch(batch, self)

    return call


class AsyncClient:
    """Submits to one Redis from event loops; `await close()` or `async with` ends it.

    Takes and raises what Client does; the items of a batch may also come from an async iterable,
    and `on_submitted` is called on the event loop. Cancelling `submit_batch` stops it, and the
    batch is what is in; another call that a thread has begun is made all the same.
    """

    def __init__(
        self, redis_url: str | None = None, *, settings: ClientSettings | None = None
    ) -> None:
        self._client = Client(redis_url, settings=settings)
        self._threads = ThreadPools()
        self._watchers = PerLoop(lambda: JobPoller(self._look_up))
        self._together = PerLoop(lambda: SubmitBatcher(self._submit_all))
        self._feeds: set[LoopBridge] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give threads and connections back. Whoever still waits gets ConnectionFailed.

        What was submitted goes on; a batch that is being submitted is what is in.
        """
        if self._threads.closed:
            return
        for feed in list(self._feeds):
            feed.stop()
        # Watchers hear of it when they look next, and those who wait from them. Connections are
        # not taken from those who still use them.
        await self._threads.close(then=self._client.close)

    # Ignored: an option could be called `self`. The types that callers see are right.
    caption = _submits(Client.caption)  # type: ignore[arg-type]
    ask = _submits(Client.ask)  # type: ignore[arg-type]
    chat = _submits(Client.chat)  # type: ignore[arg-type]
    match = _submits(Client.match)
    embed = _submits(Client.embed)
    submit = _submits(Client.submit)  # type: ignore[arg-type]
    submit_batch = _submits_batch(Client.submit_batch)  # type: ignore[arg-type]

    async def upload(self, image: ImageSource, *, when_full: WhenFull = "raise") -> str:
        """Store a local image, as Client.upload does."""
        kind: Kind = "submit" if when_full == "wait" else "call"
        return await self._threads.run(kind, self._client.upload, image, when_full=when_full)

    async def depth(self) -> Depth:
        """How much is open now."""
        return await self._threads.run("call", self._client.depth)

    def job(self, job_id: str) -> AsyncJob[Any]:
        """A handle on a job, as Client.job gives it."""
        return AsyncJob(self._client.job(job_id), self)

    def batch(self, batch_id: str) -> AsyncBatch:
        """A handle on a batch, as Client.batch gives it."""
        return AsyncBatch(self._client.batch(batch_id), self)

    async def _look_up(self, jobs: list[Job[Any]]) -> list[JobSnapshot | Exception]:
        return await self._threads.run("look", snapshot_all, jobs)

    async def _submit_all(self, calls: Sequence[Call]) -> list[Job[Any] | Exception]:
        return await self._threads.run("call", submit_all, self._client, calls)
