"""What open pages ask, by the place where the answer will stand, and until when it is wanted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..contract import Task
from ..gateway.lru import LRUCache

#: Pages that are remembered; the one that asked nothing for the longest time gives way.
MAX_PAGES: Final = 10_000


@dataclass(slots=True)
class PendingAnswer:
    """What is asked in a place."""

    #: The picture.
    about: str
    #: Set once the answer is no longer wanted.
    over: asyncio.Event = field(default_factory=asyncio.Event)
    #: Whether something else stands in the place then.
    replaced: bool = False


class PendingAnswers:
    """Each page has one place for each task; for one event loop.

    An answer is wanted until something else is asked in its place, another picture is chosen, or
    the page is left.
    """

    def __init__(self) -> None:
        self._pages: LRUCache[str, dict[Task, PendingAnswer]] = LRUCache(MAX_PAGES)

    def ask(self, page: str, place: Task, about: str) -> PendingAnswer:
        """Something is asked about a picture."""
        self.replace(page, place)
        asked = PendingAnswer(about)
        places = self._pages.get(page) or {}
        places[place] = asked
        self._pages.put(page, places)
        return asked

    def replace(self, page: str, place: Task) -> None:
        """Something else will stand there."""
        places = self._pages.get(page) or {}
        if asked := places.pop(place, None):
            asked.replaced = True
            asked.over.set()

    def turn(self, page: str, about: str) -> None:
        """Another picture is chosen; nothing is wanted that was asked about others."""
        for asked in (self._pages.get(page) or {}).values():
            if asked.about != about:
                asked.over.set()

    def watched(self, app: ASGIApp, page: str) -> ASGIApp:
        """The stream of a page's answers; who breaks it off has left the page."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            ended = False

            async def next_message() -> Message:
                message = await receive()
                # When all is answered, the stream ends by itself, and another may come.
                if message["type"] == "http.disconnect" and not ended:
                    self._leave(page)
                return message

            async def pass_on(message: Message) -> None:
                nonlocal ended
                if message["type"] == "http.response.body":
                    ended = not message.get("more_body", False)
                await send(message)

            await app(scope, next_message, pass_on)

        return answer

    def _leave(self, page: str) -> None:
        for asked in (self._pages.get(page) or {}).values():
            asked.over.set()
        self._pages.drop(page)
