"""A handle on a search index, called in the thread pools of an AsyncClient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .thread_pools import ThreadPools

if TYPE_CHECKING:
    from ..search.counts import IndexCounts
    from ..search.hit import Hit
    from ..search.index import IndexFacts, SearchIndex


class AsyncSearchIndex:
    """A search index in a folder; the methods have the arguments of SearchIndex."""

    def __init__(self, index: SearchIndex, threads: ThreadPools) -> None:
        self.folder = index.folder
        self._index = index
        self._threads = threads

    def __repr__(self) -> str:
        return f"AsyncSearchIndex({str(self.folder)!r})"

    async def search(self, *args: Any, **kwargs: Any) -> list[Hit]:
        """Return the nearest images or texts as SearchIndex.search does."""
        # A search waits for a worker, up to its timeout.
        return await self._threads.run("submit", self._index.search, *args, **kwargs)

    async def update(self, *args: Any, **kwargs: Any) -> IndexCounts:
        """Update the index as SearchIndex.update does; callbacks are called in a thread."""
        return await self._threads.run("long", self._index.update, *args, **kwargs)

    async def facts(self) -> IndexFacts:
        """Read the contents of the index."""
        return await self._threads.run("call", self._index.facts)
