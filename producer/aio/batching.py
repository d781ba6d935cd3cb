"""Batching of requests on an event loop."""

from __future__ import annotations

import asyncio
import copy
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class LoopTask(ABC, Generic[Answer]):
    """A task of one event loop that always completes its callers' futures."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pending: set[asyncio.Future[Answer | Exception]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run until no future is pending."""
        self._task = self._loop.create_task(self._run())
        # The callback also runs for a task that is cancelled before its first step.
        self._task.add_done_callback(lambda _: self._cancel_pending())

    @property
    def running(self) -> bool:
        """True from `start` until the task has ended; it cannot be restarted."""
        return self._task is not None and not self._task.done()

    @abstractmethod
    async def process(self) -> None:
        """Complete futures until none is pending. An error completes all pending futures."""

    def new_future(self) -> asyncio.Future[Answer | Exception]:
        """Return a future to await; cancelling it withdraws the request."""
        future: asyncio.Future[Answer | Exception] = self._loop.create_future()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    async def _run(self) -> None:
        try:
            await self.process()
        except Exception as error:
            for future in list(self._pending):
                resolve(future, error)

    def _cancel_pending(self) -> None:
        for future in list(self._pending):
            future.cancel()


class Batcher(LoopTask[Answer], Generic[Request, Answer]):
    """A batcher: the requests that arrive during one round trip share the next one."""

    def __init__(
        self,
        send: Callable[[Sequence[Request]], Awaitable[Sequence[Answer | Exception]]],
        limit: int,
    ) -> None:
        super().__init__()
        #: Returns the answer or the error of each request, in order.
        self._send = send
        #: Maximum requests of one round trip.
        self._limit = limit
        self._queue: deque[tuple[Request, asyncio.Future[Answer | Exception]]] = deque()

    def add(self, request: Request) -> asyncio.Future[Answer | Exception]:
        """Enqueue a request. It is not sent if the future is cancelled before its round trip."""
        future = self.new_future()
        self._queue.append((request, future))
        return future

    async def process(self) -> None:
        while page := self._next_page():
            answers = await self._send([request for request, _ in page])
            for (_, future), answer in zip(page, answers, strict=True):
                resolve(future, answer)

    def _next_page(self) -> list[tuple[Request, asyncio.Future[Answer | Exception]]]:
        page: list[tuple[Request, asyncio.Future[Answer | Exception]]] = []
        while self._queue and len(page) < self._limit:
            request, future = self._queue.popleft()
            if not future.done():
                page.append((request, future))
        return page


TaskType = TypeVar("TaskType", bound=LoopTask[Any])


class PerLoop(Generic[TaskType]):
    """One task for each event loop with pending futures."""

    def __init__(self, create: Callable[[], TaskType]) -> None:
        self._create = create
        self._tasks: dict[AbstractEventLoop, TaskType] = {}

    def for_running_loop(self) -> TaskType:
        """Return the task of the running loop; start it if necessary."""
        loop = asyncio.get_running_loop()
        task = self._tasks.get(loop)
        if task is None or not task.running:
            # Ended tasks of other loops are dropped, and their loops with them.
            self._tasks = {
                key: running for key, running in list(self._tasks.items()) if running.running
            }
            task = self._tasks[loop] = self._create()
            task.start()
        return task


def resolve(future: asyncio.Future[Answer], answer: Answer) -> None:
    """Set the result of a future unless it is cancelled."""
    if not future.done():
        future.set_result(answer)


def unwrap(answer: Answer | Exception) -> Answer:
    """Return an answer, or raise it if it is an exception."""
    if isinstance(answer, Exception):
        # Several callers may share the exception; each raises a copy with its own traceback.
        raise copy.copy(answer).with_traceback(answer.__traceback__) from answer.__cause__
    return answer
