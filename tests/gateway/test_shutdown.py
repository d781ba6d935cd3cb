"""Waits that are over when something happens."""

from __future__ import annotations

import asyncio

import pytest

from producer.errors import ConnectionFailed
from producer.gateway.shutdown import is_set_within, wait_unless


def test_what_comes_before_the_event_is_given() -> None:
    async def found() -> str:
        return "found"

    async def fails() -> str:
        raise ConnectionFailed("away")

    async def run() -> None:
        assert await wait_unless(asyncio.Event(), found()) == "found"
        with pytest.raises(ConnectionFailed):
            await wait_unless(asyncio.Event(), fails())

    asyncio.run(run())


@pytest.mark.parametrize("already", [True, False])
def test_the_event_ends_a_wait(already: bool) -> None:
    async def run() -> None:
        event, endless = asyncio.Event(), asyncio.get_running_loop().create_future()
        if already:
            event.set()
        waiting = asyncio.create_task(wait_unless(event, endless))
        await asyncio.sleep(0)
        event.set()
        assert await waiting is None
        assert endless.cancelled()

    asyncio.run(run())


def test_an_event_is_awaited_for_so_long_at_most() -> None:
    async def run() -> None:
        event = asyncio.Event()
        assert not await is_set_within(event, 0.001)
        event.set()
        assert await is_set_within(event, 60)

    asyncio.run(run())
