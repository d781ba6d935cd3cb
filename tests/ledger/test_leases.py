"""Leases: claim, heartbeat, finish, sweep, dead letters."""

from __future__ import annotations

import json
from typing import Any

import redis

from producer import Client, JobProgress, State, contract
from producer.ledger import Leases, Ledger
from producer.ledger.script import LedgerScript

from .jobs import EXPIRED, KEYS, store_result, take_message, urls


def test_a_job_is_run_by_its_first_claimant_alone(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(2))
    task_id = take_message(connection)
    claim = leases.claim(task_id)
    assert claim.run
    assert claim.payload is not None
    assert [item["custom_id"] for item in claim.payload["items"]] == ["0", "1"]
    # A second delivery, to another consumer
    second = leases.claim(task_id)
    assert (second.run, second.outcome) == (False, None)
    store_result(leases, task_id, [{"text": "a"}, {"text": "b"}])
    assert leases.claim(task_id).outcome is not None
    assert batch.progress().finished
    assert not connection.exists(KEYS.open, KEYS.running, KEYS.attempts, KEYS.depth)


def test_a_lost_message_is_queued_again_in_front(client: Client, connection: redis.Redis) -> None:
    client.submit_batch(urls(6), chunk_items=2, batch_id="b")
    lost = take_message(connection)  # and never claimed
    assert Leases(connection, lease_s=EXPIRED).sweep(0.001) == 1
    assert [take_message(connection) for _ in range(3)] == [lost, "b:1", "b:2"]


def test_a_message_that_still_waits_is_not_queued_again(
    client: Client, connection: redis.Redis
) -> None:
    client.submit_batch(urls(6), chunk_items=2)
    client.caption("https://x/1.jpg")
    assert Leases(connection, lease_s=EXPIRED).sweep(0.001) == 0
    assert (connection.llen("bulk"), connection.llen("interactive")) == (3, 1)


def test_a_job_without_a_heartbeat_is_queued_again(client: Client, connection: redis.Redis) -> None:
    job = client.caption("https://x/1.jpg")
    leases = Leases(connection, lease_s=1.0)
    leases.claim(take_message(connection, "interactive"))
    # When its lease has expired
    connection.zadd(KEYS.running, {job.id: connection.time()[0] - 10})
    # Then it is queued again, unless a heartbeat comes first
    leases.heartbeat([(job.id, "")])
    assert leases.sweep(0.001) == 0
    connection.zadd(KEYS.running, {job.id: connection.time()[0] - 10})
    connection.delete(KEYS.sweeper)
    assert leases.sweep(0.001) == 1
    assert job.status() == "queued"
    assert leases.claim(take_message(connection, "interactive")).attempts == 2


def test_a_sweep_shortly_after_another_does_nothing(
    client: Client, connection: redis.Redis
) -> None:
    client.submit_batch(urls(2))
    take_message(connection)
    leases = Leases(connection, lease_s=EXPIRED)
    assert [leases.sweep(60), leases.sweep(60)] == [1, 0]


def test_a_job_without_a_record_is_dropped_when_its_consumer_dies(connection: redis.Redis) -> None:
    """It came as a plain Celery message, which Celery itself returns to its queue."""
    leases = Leases(connection, lease_s=EXPIRED)
    assert leases.claim("foreign").run
    leases.sweep(0.001)
    assert not connection.exists(KEYS.running)


def test_a_result_for_a_job_of_a_deleted_batch_is_dropped(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(4), chunk_items=2)
    running = take_message(connection)
    leases.claim(running)
    waiting = take_message(connection)
    batch.delete()
    claim = leases.claim(waiting, "the generation of its message")
    assert (claim.run, claim.outcome) == (False, None)
    store_result(leases, running, [{"text": "x"}] * 2)
    remaining: Any = connection.keys("*")
    assert {key.decode() for key in remaining} <= {KEYS.cancelled(batch.id)}


def test_a_result_that_was_stored_for_a_lost_record_still_ends_its_batch(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    """A failover can lose a record of a running job; the batch is then submitted again."""
    results = [{"text": "x"}, {"text": "y"}]
    connection.set(
        KEYS.result("b:0"), json.dumps({"status": "SUCCESS", "result": results, "task_id": "b:0"})
    )
    batch = client.submit_batch(urls(2), batch_id="b")
    outcome = leases.claim(take_message(connection)).outcome
    assert outcome is not None
    store_result(leases, "b:0", outcome.results or [])
    assert batch.progress().finished
    assert [result.text for result in batch.results(timeout=1)] == ["x", "y"]


def test_a_dead_letter_stays_as_long_as_its_record(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    failed = [contract.failure("internal", "x")]
    stored = json.dumps({"status": "SUCCESS", "result": failed, "task_id": "1"})
    job = client.caption(b"\x89PNG")
    leases.finish(job.id, stored, 1, dead=True)
    # One that is kept for a short time does not shorten the others' time
    client.submit_batch(urls(1), keep_s=1, batch_id="short")
    leases.finish("short:0", stored, 1, dead=True)
    assert connection.ttl(KEYS.dead) > 1000
    assert connection.zcard(KEYS.dead) == 2
    connection.delete(KEYS.record("short:0"))
    connection.zadd(KEYS.dead, {"short:0": 1})
    leases.finish(client.caption("https://x/1.jpg").id, stored, 1, dead=True)
    assert connection.zscore(KEYS.dead, "short:0") is None


def test_a_reused_id_gets_no_results_of_its_earlier_generation(
    client: Client, ledger: Ledger, leases: Leases
) -> None:
    client.submit_batch(urls(2), batch_id="b")
    (old,) = ledger.records(["b:0"])
    assert old is not None
    assert leases.claim("b:0", old.generation).run
    client.batch("b").delete()
    batch = client.submit_batch(({"image": f"https://new/{n}.jpg"} for n in range(2)), batch_id="b")
    # The old consumer finishes, and an old message is delivered once more
    stored = json.dumps({"status": "SUCCESS", "result": [{"text": "old"}] * 2, "task_id": "b:0"})
    leases.finish("b:0", stored, 0, generation=old.generation)
    assert batch.progress().done == 0
    claim = leases.claim("b:0", old.generation)
    assert (claim.run, claim.outcome) == (False, None)
    (new,) = ledger.records(["b:0"])
    assert new is not None
    assert leases.claim("b:0", new.generation).run


def test_a_claim_that_lost_its_answer_can_be_repeated(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    client.submit_batch(urls(2), batch_id="b")
    script = LedgerScript(connection, "")
    for _ in range(2):
        status, _, attempts, *_ = script.call("claim", "b:0", "", "same", 30, "1.000")
        assert (status, attempts) == (b"run", 1)
    assert not leases.claim("b:0").run


def test_a_heartbeat_takes_back_a_job_that_was_swept_in_an_outage(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    job = client.caption("https://x/1.jpg")
    leases.claim(take_message(connection, "interactive"))
    assert Leases(connection, lease_s=EXPIRED).sweep(0.001) == 1
    leases.heartbeat([(job.id, "")])
    assert job.status() == "running"
    assert not leases.claim(take_message(connection, "interactive")).run


def test_values_in_the_form_of_older_versions_are_read(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    job = client.caption(b"\x89PNG")
    (sha,) = connection.hkeys(KEYS.blob_users)
    connection.hset(KEYS.blob_users, sha, "1 4")
    connection.hset(KEYS.attempts, job.id, 1)
    assert leases.claim(job.id).attempts == 2
    store_result(leases, job.id, [{"text": "x"}])
    assert not connection.exists(KEYS.blob_users, KEYS.attempts, KEYS.depth)


def test_a_running_job_has_the_start_of_its_present_attempt(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    job = client.caption("https://x/1.jpg")
    assert job.progress() == JobProgress(State.QUEUED)
    task_id = take_message(connection, "interactive")
    leases.claim(task_id, started_at=5.25)
    assert job.progress() == JobProgress(State.RUNNING, None, 5.25)
    # When its consumer dies, it waits again
    assert Leases(connection, lease_s=EXPIRED).sweep(0.001) == 1
    assert job.progress() == JobProgress(State.QUEUED)
    assert leases.claim(take_message(connection, "interactive"), started_at=7.5).attempts == 2
    assert job.progress() == JobProgress(State.RUNNING, None, 7.5)
    # A claim that is repeated because its response was lost
    connection.hset(KEYS.attempts, task_id, "2 lost 7.500")
    LedgerScript(connection, "").call("claim", task_id, "", "lost", 30, "9.000")
    assert job.progress().started_at == 7.5


def test_a_claim_of_an_older_consumer_has_no_start(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    job = client.caption("https://x/1.jpg")
    leases.claim(take_message(connection, "interactive"))
    for value in ("1 0123456789ab", "1"):
        connection.hset(KEYS.attempts, job.id, value)
        assert job.progress() == JobProgress(State.RUNNING)
    # Its claim is followed by one of this version
    assert Leases(connection, lease_s=EXPIRED).sweep(0.001) == 1
    assert leases.claim(take_message(connection, "interactive"), started_at=3.0).attempts == 2
    assert job.progress().started_at == 3.0
