"""Broadcast of a batch's progress and results: any number of streams share the reads of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from ...aio.batching import unwrap
from ...aio.handles import AsyncBatch
from ...aio.single_flight import SingleFlight
from ...errors import BliplineError, JobUnknown
from ...job import Result
from ...results.progress import Progress
from ..http.lru import LRUCache
from ..http.shutdown import is_set_within
from .results import encode_page, result_line

#: Minimum and maximum seconds between two reads of a batch.
MIN_INTERVAL_S: Final = 0.25
MAX_INTERVAL_S: Final = 1.0
#: Maximum results that are read and sent at once. An embedding takes about 5 KB.
PAGE_RESULTS: Final = 256
#: Pages that are cached for streams that request them later.
MAX_CACHED_PAGES: Final = 16

_Read = asyncio.Task[Progress | Exception]


class ProgressReader:
    """A reader of batch progress that shares one read among concurrent requests.

    It belongs to one event loop.

    A request during a read waits for the next one, because the current read may have started before
    a change that the client has made.
    """

    def __init__(self) -> None:
        self._current: dict[str, _Read] = {}
        self._next: dict[str, _Read] = {}

    async def progress(self, batch: AsyncBatch) -> Progress:
        """Return the same as `AsyncBatch.progress`."""
        read = self._next.get(batch.id)
        if read is None:
            read = self._next[batch.id] = asyncio.create_task(self._read(batch))
        # The cancellation of one request does not cancel the read of the others.
        return unwrap(await asyncio.shield(read))

    async def _read(self, batch: AsyncBatch) -> Progress | Exception:
        if (previous := self._current.get(batch.id)) is not None:
            await asyncio.wait([previous])
        self._current[batch.id] = read = self._next.pop(batch.id)
        try:
            return await batch.progress()
        except BliplineError as error:
            return error
        finally:
            if self._current.get(batch.id) is read:
                del self._current[batch.id]


@dataclass(frozen=True, slots=True)
class EventPage:
    """Results in order of completion, encoded once for all streams."""

    events: bytes
    #: Cursor of the next page.
    cursor: int
    #: True if no more results will follow.
    over: bool


class BatchBroadcast:
    """A poller of one batch for all its subscribers; for one event loop.

    Each stream requests pages at its own pace, so a slow stream does not delay the others and needs
    no buffer.
    """

    def __init__(self, batch: AsyncBatch, reader: ProgressReader, stopping: asyncio.Event) -> None:
        self._batch = batch
        self._reader = reader
        self._stopping = stopping
        #: Progress of the last read; None before the first.
        self.progress: Progress | None = None
        #: True if the batch was deleted.
        self.deleted = False
        #: Number of changes so far.
        self.version = 0
        self.subscribers = 0
        self._change = asyncio.Event()
        #: Pages by their cursor, each with the version at which it was read.
        self._pages: LRUCache[int, tuple[int, EventPage]] = LRUCache(MAX_CACHED_PAGES)
        self._reads: SingleFlight[tuple[int, int], EventPage] = SingleFlight()
        self._task: asyncio.Task[None] | None = None

    @property
    def stopping(self) -> bool:
        """True if the process is shutting down."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Poll until `stop`, the deletion of the batch, or the shutdown."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: self._notify())

    def stop(self) -> None:
        """Stop polling, and cancel reads in progress."""
        self._reads.cancel()
        if self._task is not None:
            self._task.cancel()

    async def changed(self, seen: int) -> None:
        """Wait for a version other than `seen`, or for the end of the polling."""
        while self.version == seen:
            assert self._task is not None
            if self._task.done():
                # Raises the error that ended the polling, if any.
                return self._task.result()
            await self._change.wait()

    async def page(self, cursor: int) -> EventPage:
        """Return the results after a cursor, as of the current version. Raises as `Batch.page`."""
        version = self.version
        cached_version, page = self._pages.get(cursor) or (-1, None)
        # Results are final; an empty page is valid for one version.
        if page is not None and (page.events or cached_version == version):
            return page
        key = (cursor, version)
        return await self._reads.get(key, partial(self._read_page, *key))

    async def _read_page(self, cursor: int, version: int) -> EventPage:
        results = await self._batch.page(cursor, as_completed=True, most=PAGE_RESULTS)
        events = await encode_page(_as_events, results.results) if results.results else b""
        page = EventPage(events, results.cursor, results.over)
        self._pages.put(cursor, (version, page))
        return page

    async def _run(self) -> None:
        interval_s, last_counts = MIN_INTERVAL_S, None
        while not self.stopping:
            try:
                self.progress = await self._reader.progress(self._batch)
            except JobUnknown:
                self.deleted = True
                return
            except BliplineError:
                # Redis is unreachable: the streams wait.
                counts = None
            else:
                counts = counts_of(self.progress)
            if counts is not None and counts != last_counts:
                self._notify()
                interval_s = MIN_INTERVAL_S
            else:
                interval_s = min(2 * interval_s, MAX_INTERVAL_S)
            last_counts = counts
            await is_set_within(self._stopping, interval_s)

    def _notify(self) -> None:
        self.version += 1
        self._change.set()
        self._change = asyncio.Event()


class BatchBroadcaster:
    """The broadcasts of all batches that have subscribers."""

    def __init__(self, reader: ProgressReader, stopping: asyncio.Event) -> None:
        self._reader = reader
        self._stopping = stopping
        self._broadcasts: dict[str, BatchBroadcast] = {}

    @asynccontextmanager
    async def subscribe(self, batch: AsyncBatch) -> AsyncIterator[BatchBroadcast]:
        """Yield the broadcast of a batch; it stops with its last subscriber."""
        broadcast = self._broadcasts.get(batch.id)
        if broadcast is None:
            broadcast = BatchBroadcast(batch, self._reader, self._stopping)
            self._broadcasts[batch.id] = broadcast
            broadcast.start()
        broadcast.subscribers += 1
        try:
            yield broadcast
        finally:
            broadcast.subscribers -= 1
            if not broadcast.subscribers:
                del self._broadcasts[batch.id]
                broadcast.stop()


def counts_of(progress: Progress) -> tuple[int, int, int, bool, bool, bool]:
    """Return the fields of a batch's progress whose change is an event."""
    return (
        progress.total,
        progress.done,
        progress.failed,
        progress.submitted,
        progress.cut,
        progress.cancelled,
    )


def _as_events(page: Sequence[Result]) -> bytes:
    return "".join(
        f"event: result\nid: {result.cursor}\ndata: {result_line(result)}\n\n" for result in page
    ).encode()
