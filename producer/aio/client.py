"""The asynchronous client, for asyncio programs such as FastAPI applications.

It calls the methods of the synchronous client in thread pools. The docstrings of that client
describe the arguments, results and errors. Waiting for a result does not occupy a thread: one task
polls all awaited jobs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from functools import wraps
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar

from ..batch import MAX_DELAY_S, Batch
from ..client import Client
from ..connection.outage import outage_limit
from ..contract import State
from ..job import (
    Job,
    JobSnapshot,
    Result,
    final_text,
    has_ended,
    partial_texts,
    snapshot_all,
    state_and_result,
)
from ..job_builder import JobBuilder
from ..ledger.backpressure import WhenFull
from ..ledger.batch_items import ItemSource
from ..ledger.blobs import ImageSource
from ..ledger.records import Depth, NewJob
from ..polling import PollSchedule
from ..settings import ClientSettings
from ..text_sequences import TextSequence
from ..text_stream import LOOK_UP_S, TextPart, TextParts
from .batching import Batcher, PerLoop, unwrap
from .bridge import BridgeClosed, Items, LoopBridge
from .index import AsyncSearchIndex
from .poller import JobPoller
from .submit_batcher import SubmitBatcher, is_nonblocking
from .thread_pools import Kind, ThreadPools, client_closed

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
            await asyncio.sleep(delay_s or 0.0)

    async def status(self) -> State:
        """Return the state of the job. Concurrent look-ups share one round trip."""
        return (await self.look())[0]

    async def look(self, wait_s: float = 0.0) -> tuple[State, Result | None]:
        """Return the state, and the result of an ended job; wait up to `wait_s` seconds for it."""
        return state_and_result(await self._poll(wait_s))

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
                # The wait must not occupy a thread that other calls need.
                await asyncio.sleep(delay_s)
            else:
                run = self._client._threads.run
                raise await run("call", self._handle._wait_timeout, timeout)


def _submits(
    method: Callable[Concatenate[Client, P], Job[Value]], build: Callable[..., NewJob]
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, AsyncJob[Value]]]:
    """Return an awaitable method that submits a job; `build` is JobBuilder's method of this name.

    Concurrent nonblocking calls share one round trip; the others run in a thread.
    """

    @wraps(method)
    async def call(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncJob[Value]:
        if is_nonblocking(args, kwargs):
            self._threads.check_open()
            options = {name: value for name, value in kwargs.items() if name != "when_full"}
            new_job = build(self._client._builder, *args, **options)
            unwrap(await self._submit_batchers.for_running_loop().add(new_job))
            return AsyncJob(self._client._submitted(new_job), self)
        kind: Kind = "submit" if kwargs.get("when_full") == "wait" else "call"
        job = await self._threads.run(kind, method, self._client, *args, **kwargs)
        return AsyncJob(job, self)

    return call


def _submits_batch(
    method: Callable[Concatenate[Client, Iterable[ItemSource], P], Batch],
) -> Callable[Concatenate[AsyncClient, Items, P], Coroutine[Any, Any, AsyncBatch]]:
    """Return an awaitable method that submits a batch, also of an async iterable."""

    @wraps(method)
    async def call(
        self: AsyncClient, items: Items, /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncBatch:
        bridge = LoopBridge()
        if callable(callback := kwargs.get("on_submitted")):
            kwargs["on_submitted"] = bridge.on_loop(callback)
        self._bridges.add(bridge)
        try:
            stream = bridge.items(items)
            batch = await self._threads.run("submit", method, self._client, stream, *args, **kwargs)
        except BridgeClosed:
            raise client_closed() from None
        finally:
            # After a cancellation the thread stops at its next use of the bridge, and the batch
            # ends with its submitted items.
            bridge.stop()
            self._bridges.discard(bridge)
        return AsyncBatch(batch, self)

    return call


class AsyncClient:
    """A client of one Redis for event loops; `await close()` or `async with` ends it.

    Arguments and errors are those of Client; the items of a batch may also come from an async
    iterable, and `on_submitted` is called on the event loop. Cancelling `submit_batch` interrupts
    the submission: the batch ends with its submitted items. Other calls that a thread has started
    complete although they are cancelled.
    """

    def __init__(
        self, redis_url: str | None = None, *, settings: ClientSettings | None = None
    ) -> None:
        self._client = Client(redis_url, settings=settings)
        self._threads = ThreadPools()
        self._pollers = PerLoop(lambda: JobPoller(self._look_up, self._rides_out))
        self._submit_batchers = PerLoop(lambda: SubmitBatcher(self._publish_all))
        self._texts: PerLoop[Batcher[Job[Any], str | None]] = PerLoop(
            lambda: Batcher(self._read_texts, PAGE_RESULTS)
        )
        self._bridges: set[LoopBridge] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close threads and connections. Calls that still wait raise ConnectionFailed.

        Submitted jobs continue; a batch that is being submitted ends with its submitted items.
        """
        if self._threads.closed:
            return
        for bridge in list(self._bridges):
            bridge.stop()
        self._client._outage.stop()
        # Pollers fail at their next look-up. Calls in progress keep their connections to the end.
        await self._threads.close(then=self._client.close)

    # Ignored: an option could be called `self`. The types that callers see are correct.
    caption = _submits(Client.caption, JobBuilder.caption)  # type: ignore[arg-type]
    ask = _submits(Client.ask, JobBuilder.ask)  # type: ignore[arg-type]
    chat = _submits(Client.chat, JobBuilder.chat)  # type: ignore[arg-type]
    match = _submits(Client.match, JobBuilder.match)
    embed = _submits(Client.embed, JobBuilder.embed)
    describe = _submits(Client.describe, JobBuilder.describe)  # type: ignore[arg-type]
    capfilt = _submits(Client.capfilt, JobBuilder.capfilt)  # type: ignore[arg-type]
    submit = _submits(Client.submit, JobBuilder.submit)  # type: ignore[arg-type]
    submit_batch = _submits_batch(Client.submit_batch)  # type: ignore[arg-type]

    async def upload(
        self, image: ImageSource, *, account: str = "", when_full: WhenFull = "raise"
    ) -> str:
        """Store a local image as Client.upload does."""
        kind: Kind = "submit" if when_full == "wait" else "call"
        upload = self._client.upload
        return await self._threads.run(kind, upload, image, account=account, when_full=when_full)

    async def depth(self) -> Depth:
        """Read the number of open items of each queue, running jobs, and bytes of uploads."""
        return await self._threads.run("call", self._client.depth)

    async def probe(self) -> Depth:
        """Return the same as `depth`; during an outage of Redis, raise ConnectionFailed at once."""
        with outage_limit(0.0):
            return await self._threads.run("probe", self._client.depth)

    async def stored_bytes(self, account: str) -> int:
        """Read the bytes that Redis stores for a name of API keys."""
        return await self._threads.run("call", self._client.stored_bytes, account)

    def index(self, folder: str | os.PathLike[str] = ".blipline-index") -> AsyncSearchIndex:
        """Return a handle on the search index in a folder, as Client.index does."""
        return AsyncSearchIndex(self._client.index(folder), self._threads)

    def job(self, job_id: str) -> AsyncJob[Any]:
        """Return a handle on a job of any process."""
        return AsyncJob(self._client.job(job_id), self)

    def batch(self, batch_id: str) -> AsyncBatch:
        """Return a handle on a batch of any process."""
        return AsyncBatch(self._client.batch(batch_id), self)

    async def _look_up(self, jobs: list[Job[Any]]) -> list[JobSnapshot | Exception]:
        # The poller itself rides out outages, so that its waiters keep their timeouts.
        with outage_limit(0.0):
            return await self._threads.run("look", snapshot_all, jobs)

    async def _partial_text(self, job: Job[Any]) -> str | None:
        self._threads.check_open()
        return unwrap(await self._texts.for_running_loop().add(job))

    async def _read_texts(self, jobs: Sequence[Job[Any]]) -> Sequence[str | Exception | None]:
        return await self._threads.run("look", partial_texts, jobs)

    def _rides_out(self, error: Exception, failing_since: float) -> bool:
        cause = error.__cause__
        return cause is not None and self._client._outage.rides_out(cause, failing_since)

    async def _publish_all(self, jobs: Sequence[NewJob]) -> list[Exception | None]:
        return await self._threads.run("call", self._client._publisher.publish_all, jobs)
