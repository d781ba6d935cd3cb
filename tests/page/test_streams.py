"""Streams during shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse
from starlette.types import Message

from producer.page.streams import end_on_shutdown


def test_a_stream_ends_when_the_gateway_stops() -> None:
    async def endless() -> AsyncIterator[str]:
        yield "data: ALIVE\n\n"
        await asyncio.Event().wait()

    async def run() -> list[Message]:
        stopping, sent = asyncio.Event(), list[Message]()

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)
            if message.get("body"):
                stopping.set()

        scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}
        await end_on_shutdown(StreamingResponse(endless()), stopping)(scope, receive, send)
        return sent

    sent = asyncio.run(run())
    assert sent[0]["type"] == "http.response.start"
    assert not sent[-1].get("more_body")
