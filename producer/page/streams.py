"""Answers without an end in sight, which must end when the gateway does."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..gateway.shutdown import wait_unless


def until_stopped(app: ASGIApp, stopping: asyncio.Event) -> ASGIApp:
    """The same, told that its client is gone once `stopping` is set."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        begun = ended = False

        async def watched(message: Message) -> None:
            nonlocal begun, ended
            begun = begun or message["type"] == "http.response.start"
            if message["type"] == "http.response.body":
                ended = not message.get("more_body", False)
            await send(message)

        await app(scope, _until(stopping, receive), watched)
        if begun and not ended and stopping.is_set():
            await send({"type": "http.response.body", "body": b""})

    return answer


def _until(stopping: asyncio.Event, receive: Receive) -> Receive:
    async def first() -> Message:
        return await wait_unless(stopping, receive()) or {"type": "http.disconnect"}

    return first
