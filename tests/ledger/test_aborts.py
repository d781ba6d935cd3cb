"""Aborts: cancelled batches, deadlines without a worker, clocks that differ, revocations."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from producer import Client, ErrorCode, JobFailed, State, contract
from producer.batch import Batch
from producer.ledger import Leases
from producer.ledger.aborts import PAGE_JOBS, JobAborter
from producer.ledger.ids import new_id
from producer.ledger.outbox import WebhookOutbox
from producer.ledger.publisher import PIPELINE_MESSAGES

from .jobs import KEYS, take_message, urls

HOUR_S = 3600.0


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`set_clock(offset_s)`: this host's clock differs from Redis's."""
    real = time.time

    def set_clock(offset_s: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + offset_s)

    return set_clock


def codes(batch: Batch) -> list[tuple[str | None, str | None]]:
    return [
        (result.custom_id, None if result.error is None else result.error.code.value)
        for result in batch.results(timeout=1)
    ]


def pass_deadlines(connection: redis.Redis) -> None:
    """Let the deadlines of all jobs pass; keep their order."""
    task_ids: Any = connection.zrange(KEYS.deadlines, 0, -1)
    for position, task_id in enumerate(task_ids):
        connection.zadd(KEYS.deadlines, {task_id: 1 + position})


@pytest.mark.parametrize("end", ["cancel", "deadline", "delete"])
def test_ended_jobs_leave_no_message_in_the_list_of_celery(
    client: Client, connection: redis.Redis, end: str
) -> None:
    options: dict[str, Any] = {"deadline_s": 600.0} if end == "deadline" else {}
    batch = client.submit_batch(urls(50), chunk_items=1, **options)
    assert connection.llen("bulk") > 0
    if end == "cancel":
        batch.cancel()
    elif end == "delete":
        batch.delete()
    else:
        pass_deadlines(connection)
        assert len(codes(batch)) == 50
    assert connection.llen("bulk") == 0


def test_a_batch_cancelled_before_it_begins_has_all_its_results(
    client: Client, connection: redis.Redis
) -> None:
    count = 2 * PAGE_JOBS + 3
    batch = client.submit_batch(urls(count), chunk_items=1)
    batch.cancel()
    assert codes(batch) == [(str(n), "cancelled") for n in range(count)]
    assert len(list(batch.results(1, as_completed=True))) == count
    progress = batch.progress()
    assert (progress.done, progress.failed, progress.state) == (count, count, State.CANCELLED)
    assert not connection.exists(KEYS.open, KEYS.depth)


def test_cancelling_keeps_what_has_ended_and_stops_what_runs(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(3), chunk_items=1)
    first, second = take_message(connection), take_message(connection)
    leases.claim(first)
    leases.claim(second)
    leases.finish(first, json.dumps({"status": "SUCCESS", "result": [{"text": "x"}]}), 0)
    batch.cancel()
    assert leases.heartbeat([(second, "")]) == {(second, "")}
    leases.finish(second, json.dumps({"status": "SUCCESS", "result": [{"text": "late"}]}), 0)
    assert [code for _, code in codes(batch)] == [None, "cancelled", "cancelled"]
    # An ended batch does not change
    finished = client.submit_batch([])
    finished.cancel()
    assert finished.progress().state is State.DONE


def test_items_that_are_submitted_to_a_cancelled_batch_are_cancelled(client: Client) -> None:
    def items() -> Iterator[dict[str, str]]:
        yield from urls(2)
        client.batch("b").cancel()
        yield {"image": "https://x/last.jpg", "custom_id": "last"}

    batch = client.submit_batch(items(), batch_id="b", chunk_items=1)
    assert codes(batch) == [("0", "cancelled"), ("1", "cancelled"), ("last", "cancelled")]


@pytest.mark.parametrize("as_completed", [False, True])
def test_a_reader_ends_the_chunks_of_a_canceller_that_died(
    client: Client, connection: redis.Redis, as_completed: bool
) -> None:
    count = 2 * PAGE_JOBS + 3
    batch = client.submit_batch(urls(count), chunk_items=1)
    connection.set(KEYS.cancelled(batch.id), 1)  # as a client of an older version does
    results = list(batch.results(timeout=30, as_completed=as_completed))
    assert sorted(result.index for result in results) == list(range(count))
    assert {result.error and result.error.code.value for result in results} == {"cancelled"}


def test_a_retry_of_a_cancelled_job_does_not_run_in_the_consumer_of_the_first_run(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(1))
    task_id = take_message(connection)
    (record,) = batch._ledger.records([task_id])
    assert record is not None
    assert leases.claim(task_id, record.generation).run
    batch.cancel()
    assert batch.retry_failed() == 1
    run = (task_id, record.generation)
    assert leases.heartbeat([run]) == {run}
    # Once the retry runs, the heartbeats of the first run do not renew its lease.
    assert leases.claim(task_id).run
    connection.zadd(KEYS.running, {task_id: 1})
    assert leases.heartbeat([run]) == {run}
    assert connection.zscore(KEYS.running, task_id) == 1
    leases.finish(task_id, "{}", 0, generation=record.generation)
    assert batch.progress().state is State.QUEUED


@pytest.mark.parametrize("offset_s", [-HOUR_S, 0, HOUR_S])
def test_a_deadline_does_not_depend_on_the_clock_of_the_producer(
    client: Client,
    leases: Leases,
    connection: redis.Redis,
    set_clock: Callable[[float], None],
    offset_s: float,
) -> None:
    set_clock(offset_s)
    job = client.caption("https://x/1.jpg", deadline_s=60)
    batch = client.submit_batch(urls(1), deadline_s=60)
    for task_id in (job.id, f"{batch.id}:0"):
        claim = leases.claim(task_id)
        assert claim.deadline is not None
        assert 50 < claim.deadline - claim.time <= 60
    assert job.status() is State.RUNNING


def test_a_second_pass_over_a_batch_has_the_deadline_of_the_first(
    client: Client, leases: Leases, connection: redis.Redis, set_clock: Callable[[float], None]
) -> None:
    def broken() -> Iterator[dict[str, str]]:
        yield from urls(PIPELINE_MESSAGES)
        yield from urls(1)
        raise OSError("no next item")

    with pytest.raises(OSError, match="no next item"):
        client.submit_batch(broken(), batch_id="b", chunk_items=1, deadline_s=60)
    set_clock(-HOUR_S)
    chunks = PIPELINE_MESSAGES + 1
    client.submit_batch(urls(chunks), batch_id="b", chunk_items=1, deadline_s=9999)
    claims = [leases.claim(f"b:{n}") for n in (0, chunks - 1)]
    assert all(50 < (claim.deadline or 0) - claim.time <= 60 for claim in claims)


def test_a_deadline_ends_jobs_for_whoever_looks_without_a_worker(
    client: Client, connection: redis.Redis
) -> None:
    job = client.caption("https://x/1.jpg", deadline_s=3600)
    count = PAGE_JOBS + 2
    batch = client.submit_batch(urls(count), chunk_items=1, deadline_s=3600)
    endless = client.caption("https://x/1.jpg")
    pass_deadlines(connection)
    with Client(client._settings.redis_url) as reader:
        with pytest.raises(JobFailed) as raised:
            reader.job(job.id).result(timeout=30)
        assert raised.value.code == ErrorCode.DEADLINE_EXCEEDED
        assert codes(reader.batch(batch.id)) == [
            (str(n), "deadline_exceeded") for n in range(count)
        ]
    assert batch.progress().state is State.FAILED
    assert endless.status() is State.QUEUED
    assert not connection.exists(KEYS.deadlines)


def test_a_gateway_sends_the_webhook_of_a_job_past_its_deadline(
    client: Client, connection: redis.Redis
) -> None:
    job = client.submit("https://x/1.jpg", webhook="https://hook/", deadline_s=3600)
    pass_deadlines(connection)
    (event,) = WebhookOutbox(connection).claim_due(10, 60)
    assert event.id == job.id


def test_a_running_job_past_its_deadline_is_left_to_its_consumer_while_that_lives(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    job = client.caption("https://x/1.jpg", deadline_s=3600)
    leases.claim(take_message(connection, "interactive"))
    pass_deadlines(connection)
    JobAborter(connection, KEYS).expire_due()
    assert job.status() is State.RUNNING
    # Until the consumer has died
    connection.zadd(KEYS.running, {job.id: 1})
    pass_deadlines(connection)
    JobAborter(connection, KEYS).expire_due()
    assert job.status() is State.FAILED


def test_searches_for_due_jobs_are_rare(client: Client, connection: redis.Redis) -> None:
    batch = client.submit_batch(urls(1))
    job = client.caption("https://x/1.jpg")
    before = connection.info("commandstats")["cmdstat_evalsha"]["calls"]
    started = time.monotonic()
    for _ in range(50):
        batch.progress()
        job.status()
    calls = connection.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert calls <= 1 + (time.monotonic() - started)


def test_further_due_jobs_are_searched_at_once(client: Client, connection: redis.Redis) -> None:
    client.submit_batch(urls(3 * PAGE_JOBS), chunk_items=1, deadline_s=3600)
    pass_deadlines(connection)
    aborter = JobAborter(connection, KEYS)
    for _ in range(3):
        aborter.expire_due()
    assert not connection.exists(KEYS.deadlines, KEYS.open)


def test_an_abort_of_an_earlier_run_does_not_end_a_retry(
    client: Client, connection: redis.Redis
) -> None:
    """Another client retries the job between the two calls of an abort."""
    batch = client.submit_batch(urls(1))
    (record,) = batch._ledger.records([f"{batch.id}:0"])
    assert record is not None
    batch.cancel()
    assert batch.retry_failed() == 1
    abort = ("abort", record.id, record.generation, "deadline", "{}", 60, 60, 1, 60)
    assert JobAborter(connection, KEYS)._script.call(*abort) == 0
    assert batch.progress().state is State.QUEUED


def test_a_deadline_of_an_older_producer_is_read_by_the_worker(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    """It is in the options alone; the ledger does not know it."""
    job = client.caption("https://x/1.jpg", deadline_s=60)
    connection.delete(KEYS.deadlines)
    claim = leases.claim(job.id)
    assert claim.deadline is None
    assert claim.payload is not None
    assert 50 < claim.payload["options"]["deadline"] - claim.time <= 60


def test_a_retried_job_has_no_deadline_even_if_an_older_worker_left_it(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(1), deadline_s=3600)
    failed = json.dumps({"status": "SUCCESS", "result": [contract.failure("internal", "x")]})
    leases.finish(f"{batch.id}:0", failed, 1)
    assert batch.retry_failed() == 1
    connection.zadd(KEYS.deadlines, {f"{batch.id}:0": 1})
    JobAborter(connection, KEYS).expire_due()
    assert batch.progress().state is State.QUEUED
    assert not connection.exists(KEYS.deadlines)


def test_a_revocation_and_a_deletion_whose_reply_was_lost_are_repeated(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    job = client.submit("https://x/1.jpg", job_id="mine")
    # The first call of each reached Redis, and nothing followed it.
    JobAborter(connection, KEYS)._script.call("revoke", "mine", "{}", 60)
    leases.revoke("mine", "{}")
    assert job.status() is State.CANCELLED
    batch = client.submit_batch(urls(40), chunk_items=1)
    chunks = batch._record().chunks
    batch._ledger._script.call("delete_batch", batch.id, 60)
    batch._ledger.delete_batch(batch.id, chunks)
    assert not connection.zcard(KEYS.open)
    assert not connection.exists(*(KEYS.record(f"{batch.id}:{n}") for n in range(chunks)))


def test_an_id_that_was_revoked_before_its_submission_runs(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    revoked = json.dumps({"status": "REVOKED", "result": {"exc_type": "TaskRevokedError"}})
    leases.revoke("mine", revoked)
    assert client.job("mine").status() is State.CANCELLED
    job = client.submit("https://x/1.jpg", job_id="mine")
    assert job.status() is State.QUEUED
    assert leases.claim("mine").run


def test_the_echo_of_a_revocation_does_not_end_a_retry(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    """Every consumer receives a revocation; the last may be slower than a retry."""
    batch = client.submit_batch(urls(1))
    leases.revoke(f"{batch.id}:0", "{}")
    assert codes(batch) == [("0", "cancelled")]
    assert batch.retry_failed() == 1
    leases.revoke(f"{batch.id}:0", "{}")
    assert batch.progress().state is State.QUEUED


def test_an_old_id_has_expired_by_the_clock_of_redis(
    client: Client, set_clock: Callable[[float], None]
) -> None:
    job_id = new_id()
    set_clock(2 * contract.RESULT_TTL_S)
    assert client.job(job_id).status() is State.UNKNOWN
