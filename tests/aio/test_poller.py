"""Waiting for the answers of many jobs at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from producer import Client, State
from producer.aio.poller import JobPoller
from producer.job import Job, JobSnapshot


@pytest.mark.timeout(20)
def test_after_a_redis_that_stood_still_nobody_waits_as_long_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    stood_still_s = 1000.0

    async def run() -> JobSnapshot | Exception:
        loop, looks, late = asyncio.get_running_loop(), 0, 0.0
        clock = loop.time
        monkeypatch.setattr(loop, "time", lambda: clock() + late)

        async def look_up(jobs: list[Job[Any]]) -> list[JobSnapshot | Exception]:
            nonlocal looks, late
            looks += 1
            late += stood_still_s if looks == 1 else 0.0
            return [(State.QUEUED if looks == 1 else State.CANCELLED, None) for _ in jobs]

        watcher = JobPoller(look_up)
        found = watcher.add(client.job("one"), None)
        watcher.start()
        return await found

    assert asyncio.run(run()) == (State.CANCELLED, None)
