"""Waiting for the answers of many jobs at once, on an event loop."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from ..job import LONGEST_PAUSE_S, Job, JobSnapshot, is_over
from ..ledger.ledger import PAGE_JOBS
from ..polling import PollSchedule
from .batching import Batcher

#: Looks jobs up: the looks in the order of the jobs, an exception where there can be none.
LookUp = Callable[[list[Job[Any]]], Awaitable[list[JobSnapshot | Exception]]]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    job: Job[Any]
    patience: PollSchedule
    #: The look that ended the wait, or what it raised.
    found: asyncio.Future[JobSnapshot | Exception]


class JobPoller(Batcher[JobSnapshot]):
    """Looks, in one task, for all jobs that are awaited on one event loop.

    Each waiter has the pace of a wait of its own, the newest the fastest; those that are due are
    looked up together.
    """

    def __init__(self, look_up: LookUp) -> None:
        super().__init__()
        self._look_up = look_up
        #: A heap: when to look next, by the loop's clock; who came first; for whom.
        self._queue: list[tuple[float, int, _Waiter]] = []
        self._numbers = count()
        self._news = asyncio.Event()

    def add(self, job: Job[Any], timeout: float | None) -> asyncio.Future[JobSnapshot | Exception]:
        """Look for a job until it is over, the time is up, or the future is cancelled."""
        waiter = _Waiter(job, PollSchedule(timeout, LONGEST_PAUSE_S), self.new_future())
        self._put(waiter, 0.0)
        return waiter.found

    async def process(self) -> None:
        while self._queue:
            await self._until_due()
            began = self._loop.time()
            if page := self._due(began):
                await self._look(page)
                # However many wait, looking takes half of the time at most. But a Redis that stood
                # still owes nobody as long a pause again.
                await asyncio.sleep(min(self._loop.time() - began, LONGEST_PAUSE_S))

    def _put(self, waiter: _Waiter, pause_s: float) -> None:
        due = self._loop.time() + pause_s
        heapq.heappush(self._queue, (due, next(self._numbers), waiter))
        self._news.set()

    async def _until_due(self) -> None:
        """Sleep until the first in the queue is due, or somebody comes, who is due at once."""
        self._news.clear()
        timer = self._loop.call_at(self._queue[0][0], self._news.set)
        try:
            await self._news.wait()
        finally:
            timer.cancel()

    def _due(self, now: float) -> list[_Waiter]:
        page: list[_Waiter] = []
        while self._queue and self._queue[0][0] <= now and len(page) < PAGE_JOBS:
            *_, waiter = heapq.heappop(self._queue)
            # Who gave up is not looked for.
            if not waiter.found.done():
                page.append(waiter)
        return page

    async def _look(self, page: list[_Waiter]) -> None:
        jobs = {waiter.job.id: waiter.job for waiter in page}
        looks = await self._look_up(list(jobs.values()))
        found = dict(zip(jobs, looks, strict=True))
        for waiter in page:
            self._settle(waiter, found[waiter.job.id])

    def _settle(self, waiter: _Waiter, look: JobSnapshot | Exception) -> None:
        if waiter.found.done():
            return
        over = isinstance(look, Exception) or is_over(look)
        pause_s = None if over else waiter.patience.next_delay_s()
        if pause_s is None:
            waiter.found.set_result(look)
        else:
            self._put(waiter, pause_s)
