"""Deadlines of requests, in a heap. Independent of torch and of the clock."""

from __future__ import annotations

import heapq
from collections.abc import Container
from itertools import count

from worker.engine.request import Request, RequestId


class Deadlines:
    """A heap of requests by deadline."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Request]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, request: Request) -> None:
        """Add a request's deadline, if it has one."""
        if request.deadline is not None:
            heapq.heappush(self._heap, (request.deadline, next(self._order), request))

    def pop(self, now: float) -> list[Request]:
        """Remove and return all requests past their deadline, including those that have ended."""
        expired = []
        while self._heap and self._heap[0][0] <= now:
            expired.append(heapq.heappop(self._heap)[2])
        return expired

    def prune(self, live: Container[RequestId], count: int) -> None:
        """Drop requests that are not `live` once they outnumber the `count` live ones."""
        if len(self._heap) > 2 * count + 64:
            self._heap = [entry for entry in self._heap if entry[2].id in live]
            heapq.heapify(self._heap)
