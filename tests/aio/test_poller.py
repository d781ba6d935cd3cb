"""JobPoller: thousands of awaited jobs share few threads and few round trips."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
import redis

from demo.stack import running_redis
from producer import (
    AsyncClient,
    Client,
    ConnectionFailed,
    JobCancelled,
    JobUnknown,
    State,
    contract,
)
from producer.aio.poller import JobPoller
from producer.job import Job, JobSnapshot
from producer.settings import ClientSettings

from .jobs import URL, Finish, finish_all


def test_two_thousand_awaited_jobs_take_few_threads_and_few_reads(
    redis_url: str, connection: redis.Redis, finish: Finish
) -> None:
    def reads() -> int:
        return int(connection.info("stats")["total_reads_processed"])

    def connections() -> int:
        return int(connection.info("clients")["connected_clients"])

    async def scenario() -> None:
        before, others = threading.active_count(), connections()
        async with AsyncClient(redis_url) as client:
            jobs = await asyncio.gather(*(client.caption(URL) for _ in range(2000)))
            waits = [asyncio.create_task(job.result(timeout=120)) for job in jobs]
            await asyncio.sleep(1)
            read, started = reads(), time.monotonic()
            # The loop stays responsive.
            while time.monotonic() < started + 1:
                slept = time.monotonic()
                await asyncio.sleep(0.01)
                assert time.monotonic() - slept < 1
            # A thread for each job, polling ten times a second, would make 20,000.
            assert reads() - read < 2000 * (time.monotonic() - started)
            assert threading.active_count() - before <= 8 + 1
            assert connections() - others <= 8 + 1
            await asyncio.to_thread(finish_all, finish, [job.id for job in jobs])
            assert await asyncio.gather(*waits) == [f"of {job.id}" for job in jobs]

    asyncio.run(scenario())


def test_a_result_arrives_at_once_although_many_other_jobs_are_awaited(
    redis_url: str, finish: Finish
) -> None:
    async def scenario() -> float:
        async with AsyncClient(redis_url) as client:
            others = await asyncio.gather(*(client.caption(URL) for _ in range(300)))
            waits = [asyncio.create_task(job.result()) for job in others]
            await asyncio.sleep(1)
            job = await client.caption(URL)
            mine = asyncio.create_task(job.result(timeout=5))
            await asyncio.sleep(0.05)
            started = time.monotonic()
            finish(job.id, [{"text": "x"}])
            assert await mine == "x"
            took_s = time.monotonic() - started
            for wait in waits:
                wait.cancel()
            return took_s

    assert asyncio.run(scenario()) < 0.5


def test_a_long_wait_polls_ten_times_a_second(redis_url: str, connection: redis.Redis) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            wait = asyncio.create_task((await client.caption(URL)).result())
            await asyncio.sleep(1)
            before = connection.info("stats")["total_commands_processed"]
            await asyncio.sleep(1)
            commands = connection.info("stats")["total_commands_processed"] - before
            # A look-up takes few commands.
            assert 5 <= commands <= 100
            wait.cancel()

    asyncio.run(scenario())


def test_several_callers_may_await_one_job(redis_url: str, finish: Finish) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            job = await client.caption(URL)
            handles = (job, client.job(job.id), client.job(job.id))
            waits = [asyncio.create_task(handle.result(timeout=9)) for handle in handles]
            await asyncio.sleep(0.1)
            finish(job.id, [{"text": "x"}])
            assert await asyncio.gather(*waits) == ["x", "x", "x"]

    asyncio.run(scenario())


def test_a_cancelled_wait_leaves_the_job_and_ends_the_poller(
    redis_url: str, finish: Finish
) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            tasks = len(asyncio.all_tasks())
            job = await client.caption(URL)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(job.result(), timeout=0.1)
            # As a web server cancels the handler of a disconnected client.
            handler = asyncio.create_task(job.result())
            await asyncio.sleep(0.05)
            handler.cancel()
            with pytest.raises(asyncio.CancelledError):
                await handler
            await asyncio.sleep(0.3)
            assert len(asyncio.all_tasks()) == tasks
            assert await job.status() is State.QUEUED
            finish(job.id, [{"text": "x"}])
            assert await job.result(timeout=5) == "x"

    asyncio.run(scenario())


def test_an_id_that_cannot_be_looked_up_fails_alone(
    redis_url: str, connection: redis.Redis, finish: Finish
) -> None:
    connection.rpush(contract.RESULT_KEY_PREFIX + "alien", "no result")

    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            jobs = [await client.caption(URL) for _ in range(5)]
            finish_all(finish, [job.id for job in jobs])
            jobs.insert(2, client.job("alien"))
            jobs.insert(4, client.job("\ud800"))
            ends = await asyncio.gather(*(j.result(9) for j in jobs), return_exceptions=True)
            assert [end for end in ends if isinstance(end, str)] == [
                f"of {job.id}" for job in jobs if len(job.id) == 36
            ]
            assert isinstance(ends[2], JobUnknown)
            assert isinstance(ends[4], UnicodeEncodeError)

    asyncio.run(scenario())


def test_every_waiting_caller_gets_an_error_when_redis_stops() -> None:
    async def scenario() -> None:
        with running_redis() as url:
            client = AsyncClient(settings=ClientSettings(redis_url=url, redis_wait_s=0.3))
            jobs = [await client.caption(URL) for _ in range(20)]
            waits = [asyncio.create_task(job.result()) for job in jobs]
            await asyncio.sleep(0.2)
        ends = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 60)
        assert {type(end) for end in ends} == {ConnectionFailed}
        # Each caller has an exception, and a traceback, of its own.
        assert len({id(end) for end in ends}) == 20
        await client.close()

    asyncio.run(scenario())


def test_a_job_cancelled_by_another_client_ends_the_wait(redis_url: str, client: Client) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as another:
            job = await another.caption(URL)
            wait = asyncio.create_task(job.result(timeout=10))
            await asyncio.sleep(0.1)
            client.job(job.id).cancel()
            with pytest.raises(JobCancelled):
                await wait

    asyncio.run(scenario())


@pytest.mark.timeout(20)
def test_the_pause_after_a_slow_look_up_is_bounded(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage_s = 1000.0

    async def run() -> JobSnapshot | Exception:
        loop, looks, late = asyncio.get_running_loop(), 0, 0.0
        clock = loop.time
        monkeypatch.setattr(loop, "time", lambda: clock() + late)

        async def look_up(jobs: list[Job[Any]]) -> list[JobSnapshot | Exception]:
            nonlocal looks, late
            looks += 1
            late += outage_s if looks == 1 else 0.0
            return [JobSnapshot(State.QUEUED if looks == 1 else State.CANCELLED) for _ in jobs]

        poller = JobPoller(look_up)
        future = poller.add(client.job("one"), None)
        poller.start()
        return await future

    assert asyncio.run(run()) == JobSnapshot(State.CANCELLED)
