"""ThreadPools: a kind of call cannot take the threads of another."""

from __future__ import annotations

import asyncio

import pytest

from producer import (
    AsyncClient,
    ClientSettings,
    QueueFull,
)

from .jobs import URL, Finish


def test_calls_that_wait_for_capacity_do_not_block_others(redis_url: str, finish: Finish) -> None:
    async def scenario() -> None:
        settings = ClientSettings(redis_url=redis_url, max_queued_interactive=1)
        async with AsyncClient(settings=settings) as client:
            first = await client.caption(URL)
            waiting = [
                asyncio.create_task(client.caption(URL, when_full="wait")) for _ in range(20)
            ]
            await asyncio.sleep(0.2)
            with pytest.raises(QueueFull) as raised:
                await client.caption(URL)
            assert raised.value.retry_after_s > 0
            finish(first.id, [{"text": "x"}])
            assert await asyncio.wait_for(first.result(), 5) == "x"
            for _ in waiting:
                done, _ = await asyncio.wait(waiting, return_when="FIRST_COMPLETED", timeout=9)
                waiting = [task for task in waiting if task not in done]
                for task in done:
                    finish((await task).id, [{"text": "x"}])
            assert not waiting

    asyncio.run(scenario())
