"""Lost jobs: those whose records Redis evicted or deleted end as expired for all who wait."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import redis

from producer import AsyncClient, Client, JobExpired, contract
from producer.contract import Queue, State
from producer.ledger.leases import Leases
from producer.ledger.ledger import Ledger
from tests.batch_items import Finish, texts, urls
from tests.ledger.jobs import EXPIRED, KEYS, take_message

URL = "https://images.example.com/cat.jpg"
STAGES = ("queued", "dispatched", "running", "done")


def bring(client: Client, connection: redis.Redis, job_id: str, stage: str, finish: Finish) -> None:
    """Submit a job and bring it to a stage."""
    if stage == "queued":
        # The messages before it fill Celery's list.
        for _ in range(16):
            client.caption(URL)
    client.submit(URL, job_id=job_id)
    if stage in ("running", "done"):
        take_message(connection, "interactive")
        Leases(connection).claim(job_id)
    if stage == "done":
        finish(job_id, texts(0, 1))


def delete_job(connection: redis.Redis, job_id: str) -> None:
    connection.delete(KEYS.record(job_id), KEYS.result(job_id), KEYS.metadata(job_id))


@pytest.mark.parametrize("stage", STAGES)
def test_a_lost_job_ends_as_expired_without_a_worker(
    client: Client, connection: redis.Redis, finish: Finish, stage: str
) -> None:
    bring(client, connection, "job", stage, finish)
    depth = client.depth().items[Queue.INTERACTIVE]
    job = client.submit(URL, job_id="job")
    delete_job(connection, "job")
    with pytest.raises(JobExpired):
        job.result(timeout=30)
    if stage != "done":
        # Every other process learns it as well, and the job no longer counts.
        assert client.job("job").status() is State.EXPIRED
        assert client.depth().items[Queue.INTERACTIVE] == depth - 1
        assert connection.zscore(KEYS.open, "job") is None


@pytest.mark.parametrize("stage", STAGES)
def test_a_lost_job_ends_as_expired_in_the_asynchronous_client(
    client: Client, connection: redis.Redis, redis_url: str, finish: Finish, stage: str
) -> None:
    bring(client, connection, "job", stage, finish)

    async def wait() -> None:
        async with AsyncClient(redis_url) as waiting:
            job = await waiting.submit(URL, job_id="job")
            healthy = asyncio.create_task((await waiting.submit(URL, job_id="healthy")).result())
            delete_job(connection, "job")
            with pytest.raises(JobExpired):
                await job.result(timeout=30)
            await asyncio.to_thread(finish, "healthy", texts(7, 1))
            assert await healthy == "7"

    asyncio.run(wait())


@pytest.mark.parametrize("as_completed", [False, True])
def test_a_batch_with_lost_chunks_reaches_its_end_without_a_worker(
    client: Client, connection: redis.Redis, finish: Finish, as_completed: bool
) -> None:
    batch = client.submit_batch(urls(120), chunk_items=3, batch_id="photos")
    for number in range(0, 40, 2):
        finish(f"photos:{number}", texts(3 * number, 3))
    connection.delete(*(KEYS.record(f"photos:{number}") for number in range(1, 40, 2)))
    results = sorted(
        batch.results(timeout=30, as_completed=as_completed), key=lambda each: each.index
    )
    assert [result.index for result in results] == list(range(120))
    for result in results:
        if result.index // 3 % 2:
            assert result.error is not None
            assert "Redis has lost the job" in result.error.message
        else:
            assert result.text == str(result.index)
    progress = batch.progress()
    assert (progress.done, progress.failed, progress.finished) == (120, 60, True)
    assert client.depth().items[Queue.BULK] == 0


def test_a_chunk_that_is_lost_while_it_runs_ends_with_its_consumer(
    client: Client, connection: redis.Redis, finish: Finish
) -> None:
    batch = client.submit_batch(urls(3), chunk_items=3, batch_id="photos")
    take_message(connection)
    Leases(connection).claim("photos:0")
    connection.delete(KEYS.record("photos:0"))
    finish("photos:0", texts(0, 3))
    progress = batch.progress()
    assert (progress.done, progress.failed, progress.finished) == (3, 3, True)
    assert client.depth().items[Queue.BULK] == 0


def test_a_lost_job_is_noticed_beside_a_failed_one(
    client: Client, connection: redis.Redis, finish: Finish
) -> None:
    # The record of a failed job stays.
    for job_id in ("failed", "lost"):
        client.submit(URL, job_id=job_id)
    finish("failed", [contract.failure("internal", "x")])
    delete_job(connection, "lost")
    states = [snapshot.state for snapshot in client._ledger.snapshot_all(["failed", "lost"])]
    assert states == [State.FAILED, State.EXPIRED]


def test_the_result_of_a_job_without_a_record_stays(
    client: Client, connection: redis.Redis
) -> None:
    # A failover lost the record, and not the result that follows it.
    job = client.submit(URL, job_id="job")
    stored = {"status": "SUCCESS", "result": [{"text": "a cat"}], "task_id": "job"}
    connection.set(KEYS.result("job"), json.dumps(stored))
    connection.delete(KEYS.record("job"))
    assert Ledger(connection).end_lost(["job"]) == []
    assert job.result(timeout=30) == "a cat"


def test_a_sweep_ends_lost_jobs_and_the_others_run(client: Client, connection: redis.Redis) -> None:
    for number in range(40):
        client.submit(URL, job_id=f"job-{number}")
    lost = [f"job-{number}" for number in range(0, 40, 2)]
    connection.delete(*(KEYS.record(job_id) for job_id in lost))
    leases, run = Leases(connection, lease_s=EXPIRED), set[str]()
    for _ in range(6):
        leases.sweep(0)
        connection.delete(KEYS.sweeper)
        while connection.llen("interactive"):
            message: Any = connection.rpop("interactive")
            headers = json.loads(message)["headers"]
            job_id = headers["id"]
            if leases.claim(job_id, headers["entry"]).run:
                run.add(job_id)
                leases.finish(job_id, '{"status": "SUCCESS", "result": [{"text": "a cat"}]}', 0)
    assert sorted(run) == sorted(f"job-{number}" for number in range(1, 40, 2))
    assert {client.job(job_id).status() for job_id in lost} == {State.EXPIRED}
    assert connection.zcard(KEYS.open) == 0
    assert client.depth().items[Queue.INTERACTIVE] == 0
