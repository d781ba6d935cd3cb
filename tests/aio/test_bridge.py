"""LoopBridge: async items and callbacks of a submission in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from producer import (
    AsyncClient,
    ClientSettings,
    ConnectionFailed,
    State,
)

from .jobs import URL, Finish, finish_chunks, numbered


def test_an_async_iterable_is_read_on_the_loop_without_blocking_it(
    redis_url: str, finish: Finish
) -> None:
    loop_thread = threading.get_ident()

    async def items() -> AsyncIterator[dict[str, str]]:
        for number, item in enumerate(numbered(30_000)):
            assert threading.get_ident() == loop_thread
            if number % 10_000 == 0:
                await asyncio.sleep(0)
            yield item

    totals: list[int] = []

    def on_submitted(total: int) -> None:
        assert threading.get_ident() == loop_thread
        totals.append(total)

    async def longest_pause(pauses: list[float]) -> None:
        while True:
            started = time.monotonic()
            await asyncio.sleep(0)
            pauses.append(time.monotonic() - started)

    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            pauses: list[float] = []
            meter = asyncio.create_task(longest_pause(pauses))
            batch = await client.submit_batch(items(), chunk_items=1000, on_submitted=on_submitted)
            assert totals[-1] == 30_000
            meter.cancel()
            # The 95th percentile: other programs use the processor as well.
            assert sorted(pauses)[-len(pauses) // 20] < 0.1
            finish_chunks(finish, batch.id, 30_000, 1000)
            results = [result async for result in batch.results(timeout=30)]
            assert [result.text for result in results] == [str(n) for n in range(30_000)]

    asyncio.run(scenario())


def test_an_async_iterable_is_not_read_far_ahead_of_the_submission(redis_url: str) -> None:
    taken = 0

    async def endless() -> AsyncIterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield URL

    async def scenario() -> None:
        settings = ClientSettings(redis_url=redis_url, max_queued_bulk=1000)
        client = AsyncClient(settings=settings)
        batches = [asyncio.create_task(client.submit_batch(endless())) for _ in range(10)]
        await asyncio.sleep(1.5)
        assert taken < 100_000
        before = taken
        await asyncio.sleep(0.5)
        assert taken == before
        # Jobs are submitted although more batches than call threads wait for capacity.
        assert await (await client.caption(URL)).status() is State.QUEUED
        for submitting in batches:
            submitting.cancel()
        await asyncio.wait(batches)
        # With capacity the threads end.
        with redis.Redis.from_url(redis_url) as connection:
            connection.flushdb()
        await client.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_cancelled_submission_leaves_a_batch_of_its_submitted_items(
    redis_url: str, asynchronous: bool
) -> None:
    async def endless() -> AsyncIterator[str]:
        while True:
            await asyncio.sleep(0.001)
            yield URL

    def endless_plain() -> Iterator[str]:
        while True:
            time.sleep(0.001)
            yield URL

    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            items = endless() if asynchronous else endless_plain()
            call = client.submit_batch(items, batch_id="cut", chunk_items=4)
            submitting = asyncio.create_task(call)
            await asyncio.sleep(0.5)
            submitting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await submitting
            batch = client.batch("cut")
            while not (progress := await batch.progress()).submitted:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            assert 0 < progress.total == (await batch.progress()).total

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_closing_the_client_stops_a_submission_with_an_error(redis_url: str) -> None:
    async def stuck() -> AsyncIterator[str]:
        yield URL
        await asyncio.sleep(3600)

    async def scenario() -> None:
        client = AsyncClient(redis_url)
        submitting = asyncio.create_task(client.submit_batch(stuck()))
        await asyncio.sleep(0.2)
        await client.close()
        with pytest.raises(ConnectionFailed, match="AsyncClient was closed"):
            await asyncio.wait_for(submitting, 5)

    asyncio.run(scenario())


def test_an_error_of_an_async_iterable_reaches_the_caller(redis_url: str) -> None:
    async def broken() -> AsyncIterator[str]:
        for number in range(64):
            if number == 40:
                await asyncio.sleep(0.1)
            yield URL
        await asyncio.sleep(0.1)
        raise LookupError("no more rows")

    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            with pytest.raises(LookupError, match="no more rows"):
                await client.submit_batch(broken(), batch_id="cut")
            progress = await client.batch("cut").progress()
            assert (progress.total, progress.submitted) == (64, True)

    asyncio.run(scenario())
