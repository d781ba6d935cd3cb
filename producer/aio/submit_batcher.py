"""Submissions of one moment, made together: one call in a thread, one round trip."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

from ..client import Client
from ..contract import Task
from ..job import Job
from ..ledger import blobs
from ..ledger.publisher import Chunk, Publisher, WhenFull
from ..ledger.records import NO_METADATA, JobMetadata, NewJob
from .batching import Batcher

#: Jobs that are submitted at once at most: those who come next wait for them.
PAGE_JOBS: Final = 64

#: A call that submits one job by the client that it is given.
Call = Callable[[Client], Job[Any]]
#: One that waits to be made, and who waits for it.
_Waiting = tuple[Call, asyncio.Future[Job[Any] | Exception]]
#: Makes calls: what each returns or raises, in their order.
SubmitAll = Callable[[Sequence[Call]], Awaitable[list[Job[Any] | Exception]]]

#: Types of which nothing of a caller's own runs, or is waited for, when they are read.
_PLAIN: Final = {str, int, float, bool, type(None), list, tuple, dict, Task}


class SubmitBatcher(Batcher[Job[Any]]):
    """Submits, in one task, what is submitted on one event loop.

    While some are under way, the next ones gather: the more of them there are, the less each costs.
    """

    def __init__(self, submit_all: SubmitAll) -> None:
        super().__init__()
        self._submit_all = submit_all
        self._waiting: deque[_Waiting] = deque()

    def add(self, call: Call) -> asyncio.Future[Job[Any] | Exception]:
        """The job, or what was raised. Cancelled before it is begun, it is not submitted."""
        found = self.new_future()
        self._waiting.append((call, found))
        return found

    async def process(self) -> None:
        while page := self._next():
            answers = await self._submit_all([call for call, _ in page])
            for (_, found), answer in zip(page, answers, strict=True):
                if not found.done():
                    found.set_result(answer)

    def _next(self) -> list[_Waiting]:
        page: list[_Waiting] = []
        while self._waiting and len(page) < PAGE_JOBS:
            call, found = self._waiting.popleft()
            # Who gave up submits nothing.
            if not found.done():
                page.append((call, found))
        return page


def is_nonblocking(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call of a client's method that submits a job waits for one answer of Redis alone.

    Not where it waits for room, or where its image is to be read here and uploaded.
    """
    if kwargs.get("when_full") == "wait":
        return False
    if not all(type(value) in _PLAIN for value in (*args, *kwargs.values())):
        return False
    image = args[0] if args else kwargs.get("item", kwargs.get("image"))
    if isinstance(image, dict):
        image = image.get("image")
    return image is None or (isinstance(image, str) and blobs.is_reference(image))


def submit_all(client: Client, calls: Sequence[Call]) -> list[Job[Any] | Exception]:
    """Make calls that submit a job each, in one round trip; what each returns or raises."""
    gathered = _Gathered(client._publisher)
    gathering = copy.copy(client)
    gathering._publisher = cast(Publisher, gathered)
    jobs = [_made(call, gathering) for call in calls]
    refusals = iter(client._publisher.publish_all(gathered.postings))
    return [job if isinstance(job, Exception) else next(refusals) or job for job in jobs]


class _Gathered:
    """In place of a client's publisher: notes what is to be published."""

    def __init__(self, publisher: Publisher) -> None:
        self.upload = publisher.upload
        self.postings: list[NewJob] = []
        self._publisher = publisher

    def publish(
        self,
        chunk: Chunk,
        when_full: WhenFull,
        submitter: str = "",
        note: JobMetadata = NO_METADATA,
    ) -> None:
        self.postings.append(self._publisher.posting(chunk, submitter, note))


def _made(call: Call, client: Client) -> Job[Any] | Exception:
    try:
        return call(client)
    except Exception as error:
        return error
