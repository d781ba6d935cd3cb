"""When requests run out of time. Pure: no torch, no clock of its own."""

from __future__ import annotations

import heapq
from collections.abc import Container
from itertools import count

from worker.engine.request import Request, RequestId


class Deadlines:
    """Deadlines of requests, soonest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Request]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, request: Request) -> None:
        """Remember a request's deadline, if it has one."""
        if request.deadline is not None:
            heapq.heappush(self._heap, (request.deadline, next(self._order), request))

    def pop(self, now: float) -> list[Request]:
        """Take out all whose deadline has come, also those that have ended since."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        return due

    def prune(self, live: Container[RequestId], count: int) -> None:
        """Forget requests that are not `live`, before they outnumber those `count` that are."""
        if len(self._heap) > 2 * count + 64:
            self._heap = [entry for entry in self._heap if entry[2].id in live]
            heapq.heapify(self._heap)
