"""Pending answers of open pages, and their cancellation."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..contract import Task
from ..gateway.http.lru import LRUCache

#: Maximum pages; the least recently used one is evicted.
MAX_PAGES: Final = 10_000


@dataclass(slots=True)
class PendingAnswer:
    """An answer that a page waits for."""

    #: Key of the image that the request is about.
    image: str
    #: Set once the page no longer needs the answer.
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    #: True if the page shows another output in place of the answer.
    replaced: bool = False


class PendingAnswers:
    """At most one pending answer per page and task; for one event loop.

    An answer is cancelled when the same task is requested again, another image is chosen, or the
    page is closed.
    """

    def __init__(self) -> None:
        self._pages: LRUCache[str, dict[Task, PendingAnswer]] = LRUCache(MAX_PAGES)

    def add(self, page: str, task: Task, image: str) -> PendingAnswer:
        """Add an answer; it replaces the answer of the same page and task."""
        self.replace(page, task)
        answer = PendingAnswer(image)
        answers = self._pages.get(page) or {}
        answers[task] = answer
        self._pages.put(page, answers)
        return answer

    def replace(self, page: str, task: Task) -> None:
        """Cancel an answer because the page shows another output in its place."""
        answers = self._pages.get(page) or {}
        if answer := answers.pop(task, None):
            answer.replaced = True
            answer.cancelled.set()

    def choose_image(self, page: str, image: str) -> None:
        """Cancel the page's answers about all other images."""
        for answer in (self._pages.get(page) or {}).values():
            if answer.image != image:
                answer.cancelled.set()

    def cancel_on_disconnect(self, app: ASGIApp, page: str) -> ASGIApp:
        """Wrap `app`, the stream of a page's answers, so that a disconnect cancels all of them."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            ended = False

            async def next_message() -> Message:
                message = await receive()
                # A stream that has sent all answers ends regularly; the page may open a new one.
                if message["type"] == "http.disconnect" and not ended:
                    self._cancel_all(page)
                return message

            async def track(message: Message) -> None:
                nonlocal ended
                if message["type"] == "http.response.body":
                    ended = not message.get("more_body", False)
                await send(message)

            await app(scope, next_message, track)

        return answer

    def _cancel_all(self, page: str) -> None:
        for answer in (self._pages.get(page) or {}).values():
            answer.cancelled.set()
        self._pages.drop(page)
