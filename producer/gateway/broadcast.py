"""Who listens to one batch: any number of streams, for which Redis is asked once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from ..aio.batching import SingleFlight, unwrap
from ..aio.client import AsyncBatch
from ..errors import BliplineError, JobUnknown
from ..job import Result
from ..progress import Progress
from .lru import LRUCache
from .results import encoded, line_of
from .shutdown import is_set_within

#: Seconds between two looks at a batch: while it changes, and at most.
SHORTEST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 1.0
#: Results that are read and sent at once. An embedding has some 5 KB.
PAGE_RESULTS: Final = 256
#: Pages that are kept for streams that come to them a little later.
KEPT_PAGES: Final = 16


@dataclass(frozen=True, slots=True)
class EventPage:
    """Results in the order in which they ended, written down once for all streams."""

    events: bytes
    #: Where they go on.
    cursor: int
    #: Whether no more will come.
    over: bool


class BatchBroadcast:
    """Looks at one batch for all who listen to it; for one event loop.

    Streams take what they want when they want it, so a slow one holds up nobody, and nothing is
    kept for it.
    """

    def __init__(self, batch: AsyncBatch, looks: ProgressReader, stopping: asyncio.Event) -> None:
        self._batch = batch
        self._looks = looks
        self._stopping = stopping
        #: As of the last look; None before the first.
        self.progress: Progress | None = None
        #: Whether the batch was deleted.
        self.gone = False
        #: Counts the changes that were seen.
        self.version = 0
        self.listeners = 0
        self._news = asyncio.Event()
        #: By their cursor; with the version that they were read at.
        self._pages: LRUCache[int, tuple[int, EventPage]] = LRUCache(KEPT_PAGES)
        self._reads: SingleFlight[tuple[int, int], EventPage] = SingleFlight()
        self._task: asyncio.Task[None] | None = None

    @property
    def stopping(self) -> bool:
        """Whether the process is to end."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Look until it is stopped, or the batch or the process is gone."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: self._tell())

    def stop(self) -> None:
        """Nobody listens any more."""
        self._reads.cancel()
        if self._task is not None:
            self._task.cancel()

    async def changed(self, seen: int) -> None:
        """Wait for another version than the one that was seen, or for the end of the looks."""
        while self.version == seen:
            assert self._task is not None
            if self._task.done():
                # It raises what ended it, unless that was as it should be.
                return self._task.result()
            await self._news.wait()

    async def page(self, cursor: int) -> EventPage:
        """The results after a cursor, no older than the version of now. Raises as Batch.page."""
        version = self.version
        kept, page = self._pages.get(cursor) or (-1, None)
        # What has ended stays as it is; that there is nothing more holds for one version.
        if page is not None and (page.events or kept == version):
            return page
        key = (cursor, version)
        return await self._reads.get(key, partial(self._read, *key))

    async def _read(self, cursor: int, version: int) -> EventPage:
        found = await self._batch.page(cursor, as_completed=True, most=PAGE_RESULTS)
        events = await encoded(_as_events, found.results) if found.results else b""
        page = EventPage(events, found.cursor, found.over)
        self._pages.put(cursor, (version, page))
        return page

    async def _run(self) -> None:
        pause_s, shown = SHORTEST_PAUSE_S, None
        while not self.stopping:
            try:
                self.progress = await self._looks.progress(self._batch)
            except JobUnknown:
                self.gone = True
                return
            except BliplineError:
                # Redis is away: the streams stay.
                counts = None
            else:
                counts = counts_of(self.progress)
            if counts is not None and counts != shown:
                self._tell()
                pause_s = SHORTEST_PAUSE_S
            else:
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            shown = counts
            await is_set_within(self._stopping, pause_s)

    def _tell(self) -> None:
        self.version += 1
        self._news.set()
        self._news = asyncio.Event()


class BatchBroadcaster:
    """A hub for each batch that somebody listens to."""

    def __init__(self, looks: ProgressReader, stopping: asyncio.Event) -> None:
        self._looks = looks
        self._stopping = stopping
        self._hubs: dict[str, BatchBroadcast] = {}

    @asynccontextmanager
    async def join(self, batch: AsyncBatch) -> AsyncIterator[BatchBroadcast]:
        """The batch's hub; when the last one leaves it, it stops."""
        hub = self._hubs.get(batch.id)
        if hub is None:
            hub = self._hubs[batch.id] = BatchBroadcast(batch, self._looks, self._stopping)
            hub.start()
        hub.listeners += 1
        try:
            yield hub
        finally:
            hub.listeners -= 1
            if not hub.listeners:
                del self._hubs[batch.id]
                hub.stop()


def counts_of(now: Progress) -> tuple[int, int, int, bool, bool, bool]:
    """What of a batch's progress is news; the rest changes all the time."""
    return now.total, now.done, now.failed, now.submitted, now.cut, now.cancelled


def _as_events(page: Sequence[Result]) -> bytes:
    return "".join(
        f"event: result\nid: {one.cursor}\ndata: {line_of(one)}\n\n" for one in page
    ).encode()


_Look = asyncio.Task[Progress | Exception]


class ProgressReader:
    """For one event loop.

    Who asks while a look is under way gets the next one: it may have begun before what they did.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, _Look] = {}
        self._next: dict[str, _Look] = {}

    async def progress(self, batch: AsyncBatch) -> Progress:
        """As AsyncBatch.progress gives it."""
        look = self._next.get(batch.id)
        if look is None:
            look = self._next[batch.id] = asyncio.create_task(self._look(batch))
        # Whoever hangs up does not take it from the others.
        return unwrap(await asyncio.shield(look))

    async def _look(self, batch: AsyncBatch) -> Progress | Exception:
        if (before := self._under_way.get(batch.id)) is not None:
            await asyncio.wait([before])
        self._under_way[batch.id] = look = self._next.pop(batch.id)
        try:
            return await batch.progress()
        except BliplineError as error:
            return error
        finally:
            if self._under_way.get(batch.id) is look:
                del self._under_way[batch.id]
