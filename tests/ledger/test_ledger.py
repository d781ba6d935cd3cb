"""The ledger: limits, events, blobs, deletion, and the invariant of open jobs."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any

import pytest
import redis

from producer import Client, ClientSettings, Queue, QueueFull, contract
from producer.ledger import Leases
from producer.ledger.message import event_channel

from .jobs import EXPIRED, KEYS, store_result, take_message, urls


def test_a_queue_takes_no_more_items_than_its_limit(
    redis_url: str, leases: Leases, connection: redis.Redis
) -> None:
    settings = ClientSettings(
        redis_url=redis_url, max_queued_interactive=2, max_queued_bulk=6, max_blob_mb=1
    )
    with Client(settings=settings) as client:
        jobs = [client.caption("https://x/1.jpg") for _ in range(2)]
        with pytest.raises(QueueFull, match=r"interactive has 2 items.*MAX_QUEUED_INTERACTIVE"):
            client.caption("https://x/1.jpg")
        client.submit_batch(urls(6), chunk_items=2)
        with pytest.raises(QueueFull, match="MAX_QUEUED_BULK"):
            client.submit_batch(urls(6), when_full="raise")
        # An ended job frees its capacity
        store_result(leases, jobs[0].id, [{"text": "x"}])
        client.caption("https://x/1.jpg")
    assert {k: int(v) for k, v in connection.hgetall(KEYS.depth).items()} == {
        b"interactive": 2,
        b"bulk": 6,
    }


def test_monitors_receive_one_event_for_each_enqueued_job(
    redis_url: str, connection: redis.Redis
) -> None:
    settings = ClientSettings(redis_url=redis_url, key_prefix="a:", max_queued_interactive=1)
    with connection.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(event_channel("a:", 0))
        listener.get_message(timeout=5)
        with Client(settings=settings) as client:
            for _ in range(2):
                client.submit("https://x/1.jpg", job_id="mine")
            with pytest.raises(QueueFull):
                client.submit("https://x/1.jpg", job_id="another")
        message = listener.get_message(timeout=5)
        assert message is not None
        event = json.loads(base64.b64decode(json.loads(message["data"])["body"]))
        assert (event["type"], event["uuid"]) == ("task-sent", "mine")
        assert listener.get_message(timeout=0.2) is None


def test_a_redis_user_without_the_right_to_publish_can_submit(connection: redis.Redis) -> None:
    connection.acl_setuser(
        "mute", True, passwords="+secret", keys="*", categories=["+@all"], commands=["-publish"]
    )
    try:
        options = connection.connection_pool.connection_kwargs
        url = f"redis://mute:secret@127.0.0.1:{options['port']}/0"
        with Client(url) as client:
            assert client.caption("https://x/1.jpg").status() == "queued"
    finally:
        connection.acl_deluser("mute")


def test_images_take_no_more_bytes_than_their_limit(
    redis_url: str, leases: Leases, connection: redis.Redis
) -> None:
    images = [bytes([n]) * 700_000 for n in range(2)]
    settings = ClientSettings(redis_url=redis_url, max_blob_mb=1)
    with Client(settings=settings) as client:
        job = client.caption(images[0])
        client.caption(images[0])  # the same one costs nothing
        with pytest.raises(QueueFull, match="MAX_BLOB_MB"):
            client.caption(images[1])
        store_result(leases, job.id, [{"text": "x"}])
        with pytest.raises(QueueFull):
            client.caption(images[1])
        open_ids: Any = connection.zrange(KEYS.open, 0, -1)
        assert len(open_ids) == 1
        store_result(leases, open_ids[0].decode(), [{"text": "x"}])
        client.caption(images[1])
    assert int(connection.hget(KEYS.depth, "blob_bytes") or 0) == 700_000


def test_all_operations_keep_every_open_job_in_one_place(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    """Random operations of consumers that live and die; then every job ends."""
    rng = Random(3)
    impatient = Leases(connection, lease_s=EXPIRED)
    batches = [client.submit_batch(urls(30), chunk_items=3) for _ in range(4)]
    running: set[str] = set()
    for _ in range(600):
        act = rng.randrange(5)
        if act == 0 and connection.llen("bulk"):
            take_message(connection)
        elif act == 1 and connection.llen("bulk"):
            task_id = take_message(connection)
            if rng.choice([leases, impatient]).claim(task_id).run:
                running.add(task_id)
        elif act == 2 and running:
            store_result(leases, running.pop(), [{"text": "x"}] * 3)
        elif act == 3:
            connection.delete(KEYS.sweeper)
            impatient.sweep(0.001)
        elif running:
            leases.heartbeat([(task_id, "") for task_id in running])
        places = [
            *connection.zrange(KEYS.released(Queue.BULK), 0, -1),
            *connection.zrange(KEYS.running, 0, -1),
        ]
        for batch in batches:
            places += connection.lrange(KEYS.submitter_queue(Queue.BULK, batch.id), 0, -1)
        assert sorted(places) == sorted(connection.zrange(KEYS.open, 0, -1))
    while connection.exists(KEYS.open):
        connection.delete(KEYS.sweeper)
        impatient.sweep(0.001)
        while connection.llen("bulk"):
            task_id = take_message(connection)
            if impatient.claim(task_id).run:
                store_result(leases, task_id, [{"text": "x"}] * 3)
    for batch in batches:
        assert [result.index for result in batch.results(timeout=1)] == list(range(30))
    immortal = [key for key in connection.keys("*") if connection.ttl(key) == -1]
    assert immortal == []


def test_the_images_of_a_failed_job_are_kept_as_long_as_its_results(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    client.submit_batch([b"\x89PNG"], keep_s=7 * 24 * 3600, batch_id="long")
    store_result(leases, "long:0", [contract.failure("image_invalid", "x")])
    (blob,) = connection.keys("blipline:blob:*")
    assert connection.ttl(blob) > 6 * 24 * 3600


def test_a_full_redis_still_cancels_and_deletes(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(4), chunk_items=2)
    store_result(leases, f"{batch.id}:0", [contract.failure("internal", "x")] * 2)
    connection.config_set("maxmemory", 1)
    try:
        batch.cancel()
        assert batch.progress().cancelled
        with pytest.raises(QueueFull, match="maxmemory"):
            batch.retry_failed()
        batch.delete()
    finally:
        connection.config_set("maxmemory", 0)
    assert not connection.exists(KEYS.batch(batch.id))


def test_a_job_whose_upload_is_gone_ends_like_any_other(
    client: Client, leases: Leases, connection: redis.Redis
) -> None:
    batch = client.submit_batch([{"image": "blob:" + "0" * 64}, {"image": b""}])
    store_result(leases, f"{batch.id}:0", [contract.failure("image_unreachable", "gone")] * 2)
    assert batch.progress().finished
    assert not connection.exists(KEYS.open, KEYS.depth, KEYS.blob_users)
    batch.delete()
