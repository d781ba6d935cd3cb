"""Statistics of the job store for monitoring."""

from __future__ import annotations

import time

import redis

from producer import Client
from producer.contract import Queue
from producer.ledger import Leases
from producer.ledger.ids import chunk_id
from tests.conftest import Finish

from .jobs import KEYS

URL = "https://images.example.com/cat.jpg"


def age(connection: redis.Redis, job_id: str, seconds: float) -> None:
    connection.zadd(KEYS.open, {job_id: time.time() - seconds})


def test_an_empty_store_has_zeros(client: Client) -> None:
    statistics = client.statistics()
    assert statistics.open_jobs == statistics.bulk_items == statistics.open_batches == 0
    assert statistics.interactive_waiting_s == statistics.bulk_waiting_s == 0
    assert statistics.redis_bytes


def test_the_oldest_waiting_job_of_each_queue_has_an_age(
    client: Client, connection: redis.Redis
) -> None:
    young, old = (client.submit({"image": URL}, submitter=name) for name in ("a", "b"))
    age(connection, young.id, 10)
    age(connection, old.id, 100)
    assert 99 < client.statistics().interactive_waiting_s < 110
    Leases(connection).claim(old.id, client._ledger.records([old.id])[0].generation)  # type: ignore[union-attr]
    statistics = client.statistics()
    assert 9 < statistics.interactive_waiting_s < 20
    assert (statistics.open_jobs, statistics.running_jobs, statistics.bulk_waiting_s) == (2, 1, 0)


def test_a_job_that_waits_behind_those_of_other_submitters_is_seen(
    client: Client, connection: redis.Redis
) -> None:
    client.submit_batch([{"image": URL}] * 40, chunk_items=1)
    for number in range(200):
        client.submit_batch([{"image": URL}], chunk_items=1, batch_id=f"b{number}")
    assert connection.zcard(KEYS.released(Queue.BULK)) < 20
    age(connection, chunk_id("b99", 0), 500)
    assert client.statistics().bulk_waiting_s > 499


def test_batches_count_until_they_end(client: Client, finish: Finish) -> None:
    batch = client.submit_batch([{"image": URL}] * 3, chunk_items=1)
    failure = {"error": {"code": "image_invalid", "message": "no image"}}
    finish(chunk_id(batch.id, 0), [{"text": "a cat"}])
    finish(chunk_id(batch.id, 1), [failure])
    statistics = client.statistics()
    assert statistics.open_batches == 1
    items = statistics.open_batch_items, statistics.done_batch_items, statistics.failed_batch_items
    assert items == (1, 1, 1)
    finish(chunk_id(batch.id, 2), [{"text": "a cat"}])
    assert client.statistics().open_batches == 0
    client.submit_batch([{"image": URL}], batch_id="deleted").delete()
    assert client.statistics().open_batches == 0


def test_a_batch_that_expired_is_not_counted_and_a_sweep_removes_it(
    client: Client, connection: redis.Redis
) -> None:
    batch = client.submit_batch([{"image": URL}] * 3)
    connection.delete(KEYS.batch(batch.id))
    assert client.statistics().open_batches == 0
    assert connection.zcard(KEYS.open_batches) == 1
    Leases(connection).sweep(0)
    assert connection.zcard(KEYS.open_batches) == 0


def test_a_batch_that_an_older_worker_ended_is_removed(
    client: Client, connection: redis.Redis
) -> None:
    batch = client.submit_batch([{"image": URL}] * 3)
    connection.hset(KEYS.batch(batch.id), "done", 3)
    Leases(connection).sweep(0)
    assert client.statistics().open_batches == 0


def test_a_scrape_of_many_jobs_is_fast(client: Client, connection: redis.Redis) -> None:
    client.submit_batch([{"image": URL}] * 2000, chunk_items=1)
    for number in range(600):
        client.submit_batch([{"image": URL}], batch_id=f"b{number}")
    connection.config_resetstat()
    client.statistics()
    statistics = connection.info("commandstats")
    calls = sum(command["calls"] for command in statistics.values())
    assert calls < 2000


def test_a_user_who_may_not_read_the_memory_gets_the_rest(
    redis_url: str, connection: redis.Redis
) -> None:
    connection.acl_setuser(
        "limited",
        enabled=True,
        passwords=["+secret"],
        keys=["*"],
        categories=["+@all", "-@dangerous"],
    )
    with Client(redis_url.replace("redis://", "redis://limited:secret@")) as limited:
        statistics = limited.statistics()
    assert (statistics.redis_bytes, statistics.open_jobs) == (None, 0)
    connection.acl_deluser("limited")


def test_a_full_redis_answers(client: Client, connection: redis.Redis) -> None:
    client.submit({"image": URL})
    connection.config_set("maxmemory", 1)
    try:
        statistics = client.statistics()
    finally:
        connection.config_set("maxmemory", 0)
    assert (statistics.open_jobs, statistics.redis_limit_bytes) == (1, 1)
