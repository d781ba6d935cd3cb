"""The asynchronous client, for asyncio programs such as FastAPI applications.

It calls the methods of the synchronous client in thread pools. The docstrings of that client
describe the arguments, results and errors. Waiting for a result does not occupy a thread: one task
polls all awaited jobs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from ..batch import Batch
from ..client import Client
from ..client.job_builder import JobBuilder
from ..client.probe_client import ProbeClient
from ..connection.outage import outage_limit
from ..job import Job, JobSnapshot, partial_texts, snapshot_all
from ..ledger.backpressure import WhenFull
from ..ledger.batch_items import ItemSource
from ..ledger.blobs import ImageSource
from ..ledger.records import Depth, NewJob
from ..ledger.statistics import LedgerStatistics
from ..settings import ClientSettings
from .batching import Batcher, PerLoop, unwrap
from .bridge import BridgeClosed, Items, LoopBridge
from .handles import PAGE_RESULTS, AsyncBatch, AsyncJob
from .index import AsyncSearchIndex
from .poller import JobPoller
from .submit_batcher import SubmitBatcher, is_nonblocking
from .thread_pools import Kind, ThreadPools, client_closed
from .webhooks import AsyncWebhookLog

P = ParamSpec("P")
Value = TypeVar("Value")


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
        self._probe_client = ProbeClient(settings=self._client._settings)
        self._threads = ThreadPools()
        self._pollers = PerLoop(
            lambda: JobPoller(self._look_up, self._rides_out, self._watch_workers)
        )
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
        await self._threads.close(then=self._close_clients)

    def _close_clients(self) -> None:
        self._client.close()
        self._probe_client.close()

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
        """Return the same as `depth`; during an outage, raise ConnectionFailed within seconds."""
        return await self._threads.run("probe", self._probe_client.depth)

    async def statistics(self) -> LedgerStatistics:
        """Read the statistics of the job store, which its Prometheus metrics show."""
        return await self._threads.run("call", self._client.statistics)

    async def probe_statistics(self) -> LedgerStatistics:
        """Return the same as `statistics`; during an outage, raise the error within seconds."""
        return await self._threads.run("probe", self._probe_client.statistics)

    async def stored_bytes(self, account: str) -> int:
        """Read the bytes that Redis stores for a name of API keys."""
        return await self._threads.run("call", self._client.stored_bytes, account)

    def index(self, folder: str | os.PathLike[str] = ".blipline-index") -> AsyncSearchIndex:
        """Return a handle on the search index in a folder, as Client.index does."""
        return AsyncSearchIndex(self._client.index(folder), self._threads)

    @property
    def webhooks(self) -> AsyncWebhookLog:
        """The delivery log of the webhooks that gateways send."""
        return AsyncWebhookLog(self._client.webhooks, self._threads)

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

    async def _watch_workers(self, waited_s: float) -> None:
        """Warn as the waits of Client do if no worker can end a wait of this length."""
        watch = self._client.worker_watch
        if watch.is_due(waited_s):
            await self._threads.run("look", watch.look, waited_s)

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
