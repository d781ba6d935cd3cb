"""Waits for open pages, which are over when the page is left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Leaving:
    """Who waits for which page; for one event loop."""

    def __init__(self) -> None:
        self._waits: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def of(self, page: str) -> Iterator[asyncio.Event]:
        """Set once the page is left."""
        left = asyncio.Event()
        waits = self._waits.setdefault(page, set())
        waits.add(left)
        try:
            yield left
        finally:
            waits.discard(left)
            if not waits:
                self._waits.pop(page, None)

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
        for left in self._waits.get(page, ()):
            left.set()
