"""The job poller: one task of an event loop looks up all jobs whose results are awaited there."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from ..job import MAX_DELAY_S, Job, JobSnapshot, has_ended
from ..ledger.script import PAGE_JOBS
from ..polling import PollSchedule
from .batching import LoopTask, resolve

#: A look-up of jobs: their snapshots or errors, in order.
LookUp = Callable[[list[Job[Any]]], Awaitable[list[JobSnapshot | Exception]]]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    job: Job[Any]
    schedule: PollSchedule
    #: Schedule of look-ups during an outage: without a wait, the call is a read, which rides it
    #: out as all reads do.
    outage_schedule: PollSchedule
    #: The last snapshot of the wait, or its error.
    future: asyncio.Future[JobSnapshot | Exception]


class JobPoller(LoopTask[JobSnapshot]):
    """A poller of the jobs that are awaited on one event loop.

    Each waiter has its own schedule; newer waiters poll more often. Waiters that are due share a
    round trip.
    """

    def __init__(
        self,
        look_up: LookUp,
        rides_out: Callable[[Exception, float], bool] = lambda *_: False,
        watch: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__()
        self._look_up = look_up
        #: Awaited with the seconds of the longest wait after each look-up without its result.
        self._watch = watch
        #: Returns whether to wait for the end of an outage, given an error and the time since which
        #: all look-ups fail (monotonic clock).
        self._rides_out = rides_out
        self._failing_since: float | None = None
        #: A heap of (time of the next look-up by the loop's clock, sequence number, waiter).
        self._queue: list[tuple[float, int, _Waiter]] = []
        self._sequence = count()
        #: Set when the head of the queue is due, or the queue has a new waiter.
        self._wake = asyncio.Event()

    def add(self, job: Job[Any], timeout: float | None) -> asyncio.Future[JobSnapshot | Exception]:
        """Poll a job until it has ended, the timeout has passed, or the future is cancelled."""
        schedule = PollSchedule(timeout, MAX_DELAY_S)
        outage_schedule = schedule if timeout else PollSchedule(None, MAX_DELAY_S)
        waiter = _Waiter(job, schedule, outage_schedule, self.new_future())
        self._push(waiter, 0.0)
        return waiter.future

    async def process(self) -> None:
        while self._queue:
            await self._wait_until_due()
            started = self._loop.time()
            if page := self._pop_due(started):
                await self._poll(page)
                # Look-ups take at most half of the time, for any number of waiters. The pause is
                # bounded, so that waiters do not wait again for the duration of a Redis outage.
                await asyncio.sleep(min(self._loop.time() - started, MAX_DELAY_S))

    def _push(self, waiter: _Waiter, delay_s: float) -> None:
        due = self._loop.time() + delay_s
        heapq.heappush(self._queue, (due, next(self._sequence), waiter))
        self._wake.set()

    async def _wait_until_due(self) -> None:
        self._wake.clear()
        timer = self._loop.call_at(self._queue[0][0], self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    def _pop_due(self, now: float) -> list[_Waiter]:
        page: list[_Waiter] = []
        while self._queue and self._queue[0][0] <= now and len(page) < PAGE_JOBS:
            *_, waiter = heapq.heappop(self._queue)
            if not waiter.future.done():
                page.append(waiter)
        return page

    async def _poll(self, page: list[_Waiter]) -> None:
        jobs = {waiter.job.id: waiter.job for waiter in page}
        answers = await self._look_up(list(jobs.values()))
        snapshots = dict(zip(jobs, answers, strict=True))
        failed = all(isinstance(answer, Exception) for answer in answers)
        self._failing_since = (self._failing_since or time.monotonic()) if failed else None
        for waiter in page:
            self._settle(waiter, snapshots[waiter.job.id])
        waits = [w.schedule.waited_s() for w in page if _is_open(snapshots[w.job.id])]
        if waits and self._watch is not None:
            await self._watch(max(waits))

    def _settle(self, waiter: _Waiter, snapshot: JobSnapshot | Exception) -> None:
        """Answer a waiter, or push it for its next look-up."""
        delay_s: float | None = None
        if isinstance(snapshot, Exception):
            if self._rides_out(snapshot, self._failing_since or time.monotonic()):
                delay_s = waiter.outage_schedule.next_delay_s()
        elif _is_open(snapshot):
            delay_s = waiter.schedule.next_delay_s()
        if delay_s is None:
            resolve(waiter.future, snapshot)
        elif not waiter.future.done():
            self._push(waiter, delay_s)


def _is_open(snapshot: JobSnapshot | Exception) -> bool:
    return not isinstance(snapshot, Exception) and not has_ended(snapshot)
