"""Waits of AsyncClient without a worker: the warning of Client's waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import redis

from producer import AsyncClient, WaitTimeout
from producer.ledger import worker_watch
from producer.ledger.leases import Leases
from producer.ledger.worker_watch import NO_WORKER

Wait = Callable[[AsyncClient], Awaitable[object]]


async def result(client: AsyncClient) -> object:
    return await (await client.embed(text="a cat")).result(timeout=0.4)


async def stream(client: AsyncClient) -> object:
    job = await client.embed(text="a cat")
    return [part async for part in job.stream(timeout=0.4)]


async def batch_results(client: AsyncClient) -> object:
    batch = await client.submit_batch([{"text": "a cat"}], task="embed")
    return [each async for each in batch.results(timeout=0.4)]


def warnings_of(redis_url: str, wait: Wait, caplog: pytest.LogCaptureFixture) -> list[str]:
    async def run() -> None:
        async with AsyncClient(redis_url) as client:
            with pytest.raises(WaitTimeout):
                await wait(client)

    asyncio.run(run())
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a wait long after a few look-ups."""
    monkeypatch.setattr(worker_watch, "SILENT_S", 0.02)


@pytest.mark.parametrize("wait", [result, stream, batch_results])
def test_a_wait_without_a_worker_warns_once(
    redis_url: str, connection: redis.Redis, caplog: pytest.LogCaptureFixture, wait: Wait
) -> None:
    assert warnings_of(redis_url, wait, caplog) == [NO_WORKER]


@pytest.mark.parametrize("wait", [result, stream, batch_results])
def test_a_wait_with_a_worker_that_is_busy_says_nothing(
    redis_url: str, connection: redis.Redis, caplog: pytest.LogCaptureFixture, wait: Wait
) -> None:
    Leases(connection).report_worker("host:1")
    assert warnings_of(redis_url, wait, caplog) == []
