"""Graceful shutdown of responses that stream without an end."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..gateway.http.shutdown import wait_unless


def end_on_shutdown(app: ASGIApp, stopping: asyncio.Event) -> ASGIApp:
    """Wrap `app` so that it receives a client disconnect when `stopping` is set."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        started = ended = False

        async def track(message: Message) -> None:
            nonlocal started, ended
            started = started or message["type"] == "http.response.start"
            if message["type"] == "http.response.body":
                ended = not message.get("more_body", False)
            await send(message)

        async def next_message() -> Message:
            return await wait_unless(stopping, receive()) or {"type": "http.disconnect"}

        await app(scope, next_message, track)
        if started and not ended and stopping.is_set():
            await send({"type": "http.response.body", "body": b""})

    return answer
