"""Answers without an end, and the end of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse
from starlette.types import Message

from producer.page.streams import until_stopped


def test_a_stream_ends_when_the_gateway_does() -> None:
    async def endless() -> AsyncIterator[str]:
        yield "data: ALIVE\n\n"
        await asyncio.Event().wait()

    async def run() -> list[Message]:
        stopping, sent = asyncio.Event(), []

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)
            if message.get("body"):
                stopping.set()

        scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}
        await until_stopped(StreamingResponse(endless()), stopping)(scope, receive, send)
        return sent

    sent = asyncio.run(run())
    assert sent[0]["type"] == "http.response.start"
    assert not sent[-1].get("more_body")
