"""Backpressure: full queues, and a Redis that is full or rejects writes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from producer import (
    Client,
    ClientSettings,
    QueueFull,
)
from producer.ledger.keys import Keys
from tests.batch_items import Finish, texts, urls

KEYS = Keys()


def test_a_full_redis_rejects_new_work_and_accepts_results(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(2))
    connection.config_set("maxmemory", 1)
    try:
        with pytest.raises(QueueFull, match="maxmemory"):
            client.submit_batch(urls(2), when_full="raise")
        finish(f"{batch.id}:0", texts(0, 2))
        assert [result.text for result in batch.results(timeout=5)] == ["0", "1"]
        assert batch.progress().finished
    finally:
        connection.config_set("maxmemory", 0)


def test_a_nearly_full_redis_rejects_new_work(client: Client, connection: redis.Redis) -> None:
    used = connection.info("memory")["used_memory"]
    connection.config_set("maxmemory", int(used * 1.05))
    try:
        with pytest.raises(QueueFull, match=r"Redis uses .* of .* MiB \(its `maxmemory`\)"):
            client.caption("https://images.example.com/0.jpg")
    finally:
        connection.config_set("maxmemory", 0)
    assert not connection.exists(KEYS.open)


def test_a_batch_waits_for_a_redis_that_is_full(client: Client, connection: redis.Redis) -> None:
    connection.config_set("maxmemory", 1)
    try:
        with ThreadPoolExecutor(1) as pool:
            submitting = pool.submit(client.submit_batch, urls(2))
            with pytest.raises(TimeoutError):
                submitting.result(0.3)
            connection.config_set("maxmemory", 0)
            assert submitting.result(20).progress().total == 2
    finally:
        connection.config_set("maxmemory", 0)


def test_a_result_waits_while_redis_rejects_writes(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    job = client.caption("https://images.example.com/0.jpg")
    connection.replicaof("127.0.0.1", "1")  # as a failover leaves the old master
    storing = threading.Thread(target=finish, args=(job.id, texts(0, 1)))
    try:
        storing.start()
        storing.join(0.5)
        assert storing.is_alive(), "given up, on a Redis that was a replica for a moment"
    finally:
        connection.replicaof("NO", "ONE")
    storing.join(20)
    assert job.result(timeout=5) == "0"


def test_a_rejected_chunk_leaves_no_gap(redis_url: str, finish: Finish) -> None:
    settings = ClientSettings(redis_url=redis_url, max_queued_bulk=90)
    with Client(settings=settings) as client:
        with pytest.raises(QueueFull):
            client.submit_batch(urls(100), batch_id="b", when_full="raise")
        batch = client.batch("b")
        assert batch.progress().total == 64
        for number in range(2):
            finish(f"b:{number}", texts(32 * number, 32))
        assert len(list(batch.results(timeout=1))) == 64
        client.submit_batch(urls(100), batch_id="b")
        for number, count in ((2, 32), (3, 4)):
            finish(f"b:{number}", texts(32 * number, count))
        assert [result.text for result in batch.results(timeout=1)] == [str(n) for n in range(100)]


def test_a_job_without_capacity_uploads_nothing(redis_url: str, connection: redis.Redis) -> None:
    settings = ClientSettings(redis_url=redis_url, max_queued_interactive=1)
    with Client(settings=settings) as client:
        client.caption("https://images.example.com/0.jpg")
        with pytest.raises(QueueFull):
            client.caption(b"image")
    assert not connection.keys("blipline:blob:*")


def test_an_error_of_the_callback_during_backpressure_reaches_the_caller(
    client: Client, connection: redis.Redis
) -> None:
    def gone(total: int) -> None:
        raise BrokenPipeError("nobody reads the progress")

    connection.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokenPipeError):
            client.submit_batch(urls(2), on_submitted=gone)
    finally:
        connection.config_set("maxmemory", 0)


def test_the_callback_counts_every_chunk_during_backpressure(
    redis_url: str, finish: Finish
) -> None:
    settings = ClientSettings(redis_url=redis_url, max_queued_bulk=4)
    heard: list[int] = []

    def hear(total: int) -> None:
        if total not in heard:
            heard.append(total)
            # Capacity for one more chunk: the group is not complete yet.
            finish(f"slow:{len(heard) - 1}", texts(0, 2))

    with Client(settings=settings) as client:
        client.submit_batch(urls(12), batch_id="slow", chunk_items=2, on_submitted=hear)
    assert heard == [4, 6, 8, 10, 12]
