"""Waits that end early when an event is set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from producer.errors import ConnectionFailed
from producer.gateway.http.shutdown import is_set_within, wait_unless


def test_a_wait_returns_or_raises_before_the_event() -> None:
    async def succeeds() -> str:
        return "result"

    async def fails() -> str:
        raise ConnectionFailed("down")

    async def run() -> None:
        assert await wait_unless(asyncio.Event(), succeeds()) == "result"
        with pytest.raises(ConnectionFailed):
            await wait_unless(asyncio.Event(), fails())

    asyncio.run(run())


@pytest.mark.parametrize("is_set", [True, False])
def test_the_event_cancels_a_wait(is_set: bool) -> None:
    async def run() -> None:
        event, endless = asyncio.Event(), asyncio.get_running_loop().create_future()
        if is_set:
            event.set()
        waiting = asyncio.create_task(wait_unless(event, endless))
        await asyncio.sleep(0)
        event.set()
        assert await waiting is None
        assert endless.cancelled()

    asyncio.run(run())


def test_waiting_for_an_event_has_a_timeout() -> None:
    async def run() -> None:
        event = asyncio.Event()
        assert not await is_set_within(event, 0.001)
        event.set()
        assert await is_set_within(event, 60)

    asyncio.run(run())


def test_a_generator_that_the_event_interrupts_can_be_closed() -> None:
    async def check() -> list[str]:
        ended: list[str] = []

        async def parts() -> AsyncGenerator[str, None]:
            try:
                yield "a cat"
                await asyncio.sleep(3600)
            finally:
                # As a read that ends some steps of the event loop after its cancellation.
                await asyncio.sleep(0)
                ended.append("closed")

        event = asyncio.Event()
        async with aclosing(parts()) as stream:
            assert await wait_unless(event, anext(stream, None)) == "a cat"
            asyncio.get_running_loop().call_later(0.01, event.set)
            assert await wait_unless(event, anext(stream, None)) is None
        return ended

    assert asyncio.run(check()) == ["closed"]
