"""The books: every open job is in one place, whatever Celery loses, and closing leaves nothing."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from importlib import resources
from random import Random
from typing import Any

import pytest
import redis
from celery import Celery

from demo.stack import running_redis
from producer import (
    AsyncClient,
    Client,
    ClientSettings,
    ConnectionFailed,
    Queue,
    QueueFull,
    contract,
)
from producer.contract import Task
from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger
from producer.ledger.message import event_channel, sent_event, task_message

KEYS = Keys()
#: Seconds; a test that lets a lease run out has one of no length.
NO_LEASE = 0.0


@pytest.fixture
def ledger(connection: redis.Redis) -> Ledger:
    return Ledger(connection)


def urls(count: int) -> Iterator[dict[str, str]]:
    return ({"image": f"https://x/{n}.jpg", "custom_id": str(n)} for n in range(count))


def take(connection: redis.Redis, queue: str = "bulk") -> str:
    """The id of the next message, which is taken out as a consumer does."""
    _, message = connection.brpop([queue], 1)
    task_id: str = json.loads(message)["headers"]["id"]
    return task_id


def store(ledger: Ledger, task_id: str, results: list[dict[str, Any]]) -> None:
    """End a job, as the result backend does."""
    failed = sum("error" in one for one in results)
    stored = json.dumps({"status": "SUCCESS", "result": results, "task_id": task_id})
    ledger.finish(task_id, stored, failed)


def test_a_message_says_what_celery_says(redis_url: str, connection: redis.Redis) -> None:
    with Celery("tests", broker=redis_url, set_as_current=False) as app:
        app.send_task("blipline.vqa", task_id="1", queue="bulk", kwargs={}, kwargsrepr="x")
    theirs = json.loads(connection.lpop("bulk"))
    ours = json.loads(task_message("1", Task.VQA, Queue.BULK, "x"))
    for name, value in ours["headers"].items():
        if name not in ("origin", "argsrepr", "entry"):
            assert theirs["headers"][name] == value, name
    assert ours["body"] == theirs["body"]
    for name in ("content-type", "content-encoding"):
        assert ours[name] == theirs[name]
    for name in ("correlation_id", "delivery_info", "priority", "body_encoding"):
        assert ours["properties"][name] == theirs["properties"][name]


def test_a_sent_event_says_what_celery_says(redis_url: str, connection: redis.Redis) -> None:
    with (
        connection.pubsub(ignore_subscribe_messages=True) as listener,
        Celery("tests", broker=redis_url, set_as_current=False) as app,
    ):
        listener.subscribe(event_channel("", 0))
        listener.get_message(timeout=5)
        app.conf.task_send_sent_event = True
        app.send_task("blipline.vqa", task_id="1", queue="bulk", kwargs={}, kwargsrepr="x")
        heard = listener.get_message(timeout=5)
    assert heard is not None
    theirs, ours = json.loads(heard["data"]), json.loads(sent_event("1", Task.VQA, Queue.BULK, "x"))
    assert list(ours) == list(theirs)
    ours, theirs = (json.loads(base64.b64decode(one["body"])) for one in (ours, theirs))
    for name in ("type", "uuid", "root_id", "name", "kwargs", "retries", "queue", "routing_key"):
        assert ours[name] == theirs[name], name
    assert set(ours) <= set(theirs)


def test_a_job_is_run_by_the_first_who_begins_it_and_by_nobody_else(
    client: Client, ledger: Ledger, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(2))
    task_id = take(connection)
    begun = ledger.claim(task_id)
    assert begun.run
    assert begun.payload is not None
    assert [item["custom_id"] for item in begun.payload["items"]] == ["0", "1"]
    # A second delivery, elsewhere
    again = ledger.claim(task_id)
    assert (again.run, again.outcome) == (False, None)
    store(ledger, task_id, [{"text": "a"}, {"text": "b"}])
    assert ledger.claim(task_id).outcome is not None
    assert batch.progress().finished
    assert not connection.exists(KEYS.open, KEYS.running, KEYS.attempts, KEYS.depth)


def test_a_message_lost_on_its_way_is_queued_again_in_front(
    client: Client, connection: redis.Redis
) -> None:
    client.submit_batch(urls(6), chunk_items=2, batch_id="b")
    lost = take(connection)  # and never begun
    sweeping = Ledger(connection, lease_s=NO_LEASE)
    assert sweeping.sweep(0.001) == 1
    assert [take(connection) for _ in range(3)] == [lost, "b:1", "b:2"]


def test_what_is_still_in_the_list_is_not_queued_again(
    client: Client, connection: redis.Redis
) -> None:
    client.submit_batch(urls(6), chunk_items=2)
    client.caption("https://x/1.jpg")
    assert Ledger(connection, lease_s=NO_LEASE).sweep(0.001) == 0
    assert (connection.llen("bulk"), connection.llen("interactive")) == (3, 1)


def test_a_job_whose_consumer_gives_no_sign_of_life_is_queued_again(
    client: Client, connection: redis.Redis
) -> None:
    job = client.caption("https://x/1.jpg")
    ledger = Ledger(connection, lease_s=1.0)
    ledger.claim(take(connection, "interactive"))
    # When it has been silent for long
    connection.zadd(KEYS.running, {job.id: connection.time()[0] - 10})
    # Then it is queued again, unless it shows that it lives
    ledger.heartbeat([job.id])
    assert ledger.sweep(0.001) == 0
    connection.zadd(KEYS.running, {job.id: connection.time()[0] - 10})
    connection.delete(KEYS.sweeper)
    assert ledger.sweep(0.001) == 1
    assert job.status() == "queued"
    begun = ledger.claim(take(connection, "interactive"))
    assert begun.attempts == 2


def test_whoever_sweeps_just_after_another_does_nothing(
    client: Client, connection: redis.Redis
) -> None:
    client.submit_batch(urls(2))
    take(connection)
    sweeping = Ledger(connection, lease_s=NO_LEASE)
    assert [sweeping.sweep(60), sweeping.sweep(60)] == [1, 0]


def test_a_job_without_a_row_is_forgotten_when_its_consumer_dies(connection: redis.Redis) -> None:
    """It came by a plain Celery message, which goes back to its queue by itself."""
    ledger = Ledger(connection, lease_s=NO_LEASE)
    assert ledger.claim("foreign").run
    ledger.sweep(0.001)
    assert not connection.exists(KEYS.running)


def test_turns_go_to_the_submitter_that_has_had_the_fewest_items(
    redis_url: str, connection: redis.Redis, ledger: Ledger
) -> None:
    """A thousand chunks of one do not make another one wait for more than the window."""
    for name, chunks in (("large", 1000), ("small", 3), ("late", 3)):
        settings = ClientSettings(redis_url=redis_url, submitter=name)
        with Client(settings=settings) as client:
            # Chunks of the large one are small: it is items that count.
            size = 2 if name == "large" else 8
            client.submit_batch(urls(size * chunks), chunk_items=size, batch_id=name)
    order = []
    for _ in range(60):
        task_id = take(connection)
        ledger.claim(task_id)
        order.append(task_id.partition(":")[0])
    who = {name: [place for place, one in enumerate(order) if one == name] for name in set(order)}
    # 16 of the large one were in Celery's hands before the others came.
    assert len(who["small"]) == len(who["late"]) == 3
    assert who["small"][0] <= 20
    assert who["late"][-1] < 60
    # From then on 8 items of each in turn: four chunks of the large one for each of the others.
    assert who["small"][2] - who["small"][0] in range(8, 24)


def test_one_submitter_gains_nothing_from_many_batches(
    redis_url: str, connection: redis.Redis, ledger: Ledger
) -> None:
    for name, batches in (("greedy", 9), ("modest", 1)):
        with Client(settings=ClientSettings(redis_url=redis_url, submitter=name)) as client:
            for number in range(batches):
                client.submit_batch(urls(40), chunk_items=2, batch_id=f"{name}{number}")
    order = []
    for _ in range(56):
        order.append(take(connection))
        ledger.claim(order[-1])
    modest = [task_id for task_id in order[16:] if task_id.startswith("modest")]
    assert len(modest) in range(19, 22), "half of the turns"


def test_a_queue_takes_no_more_than_it_is_bound_to(
    redis_url: str, ledger: Ledger, connection: redis.Redis
) -> None:
    settings = ClientSettings(
        redis_url=redis_url, max_queued_interactive=2, max_queued_bulk=6, max_blob_mb=1
    )
    with Client(settings=settings) as client:
        jobs = [client.caption("https://x/1.jpg") for _ in range(2)]
        with pytest.raises(QueueFull, match=r"interactive holds 2 items.*MAX_QUEUED_INTERACTIVE"):
            client.caption("https://x/1.jpg")
        client.submit_batch(urls(6), chunk_items=2)
        with pytest.raises(QueueFull, match="MAX_QUEUED_BULK"):
            client.submit_batch(urls(6), when_full="raise")
        # What has ended makes room
        store(ledger, jobs[0].id, [{"text": "x"}])
        client.caption("https://x/1.jpg")
    assert {k: int(v) for k, v in connection.hgetall(KEYS.depth).items()} == {
        b"interactive": 2,
        b"bulk": 6,
    }


def test_a_job_that_no_replica_has_does_not_count_as_submitted(
    redis_url: str, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.ledger.ledger.REPLICAS_WAIT_MS", 50)
    url = "https://x/1.jpg"
    with Client(settings=ClientSettings(redis_url=redis_url, replicas=1)) as client:
        with pytest.raises(ConnectionFailed, match="0 of 1 replicas have it"):
            client.caption(url)
        port = connection.connection_pool.connection_kwargs["port"]
        with running_redis(None, "--replicaof", "127.0.0.1", str(port)):
            deadline = time.monotonic() + 20
            while connection.info("replication").get("slave0", {}).get("state") != "online":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            monkeypatch.setattr("producer.ledger.ledger.REPLICAS_WAIT_MS", 20_000)
            assert client.caption(url).status() == "queued"


def test_a_server_that_does_not_hold_the_script_is_given_it(
    redis_url: str, connection: redis.Redis
) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            for _ in range(2):
                # As after a restart, or at the server that a failover leads to.
                connection.script_flush()
                await asyncio.gather(*(client.submit("https://x/1.jpg") for _ in range(3)))

    asyncio.run(scenario())
    with Client(redis_url) as client:
        connection.script_flush()
        client.caption("https://x/1.jpg")
        connection.script_flush()
        client.submit_batch(urls(6), chunk_items=2)
        assert client.depth().items == {Queue.INTERACTIVE: 7, Queue.BULK: 6}


def test_a_server_that_lost_the_script_still_says_what_replicas_have(
    redis_url: str, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.ledger.ledger.REPLICAS_WAIT_MS", 50)
    with Client(settings=ClientSettings(redis_url=redis_url, replicas=1)) as client:
        connection.script_flush()
        with pytest.raises(ConnectionFailed, match="0 of 1 replicas have it"):
            client.caption("https://x/1.jpg")


def test_a_lone_job_is_one_round_trip(client: Client, connection: redis.Redis) -> None:
    def commands() -> dict[str, int]:
        stats = connection.info("commandstats")
        return {name: int(figures["calls"]) for name, figures in stats.items()}

    client.caption("https://x/1.jpg")
    before = commands()
    client.caption("https://x/1.jpg")
    after = commands()
    asked = {name for name in after if after[name] != before.get(name)}
    assert after["cmdstat_evalsha"] == before["cmdstat_evalsha"] + 1
    # What the script itself does counts as well.
    assert not asked & {"cmdstat_script", "cmdstat_script|exists", "cmdstat_eval"}
    assert after["cmdstat_publish"] == before["cmdstat_publish"] + 1


def test_monitors_are_told_once_of_each_job_that_is_entered(
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
        heard = listener.get_message(timeout=5)
        assert heard is not None
        event = json.loads(base64.b64decode(json.loads(heard["data"])["body"]))
        assert (event["type"], event["uuid"]) == ("task-sent", "mine")
        assert listener.get_message(timeout=0.2) is None


def test_a_user_who_may_not_tell_monitors_submits_all_the_same(connection: redis.Redis) -> None:
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


def test_images_take_no_more_than_they_are_bound_to(
    redis_url: str, ledger: Ledger, connection: redis.Redis
) -> None:
    images = [bytes([n]) * 700_000 for n in range(2)]
    settings = ClientSettings(redis_url=redis_url, max_blob_mb=1)
    with Client(settings=settings) as client:
        job = client.caption(images[0])
        client.caption(images[0])  # the same one costs nothing
        with pytest.raises(QueueFull, match="MAX_BLOB_MB"):
            client.caption(images[1])
        store(ledger, job.id, [{"text": "x"}])
        with pytest.raises(QueueFull):
            client.caption(images[1])
        (other,) = connection.zrange(KEYS.open, 0, -1)
        store(ledger, other.decode(), [{"text": "x"}])
        client.caption(images[1])
    assert int(connection.hget(KEYS.depth, "blob_bytes") or 0) == 700_000


def test_a_result_for_a_job_of_a_deleted_batch_is_dropped(
    client: Client, ledger: Ledger, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(4), chunk_items=2)
    running = take(connection)
    ledger.claim(running)
    batch.delete()
    waiting = take(connection)
    begun = ledger.claim(waiting, "the entry that its message names")
    assert (begun.run, begun.outcome) == (False, None)
    store(ledger, running, [{"text": "x"}] * 2)
    left = {key.decode() for key in connection.keys("*")}
    assert left <= {KEYS.cancelled(batch.id), "bulk"}


def test_a_result_that_was_stored_for_a_lost_row_still_ends_its_batch(
    client: Client, ledger: Ledger, connection: redis.Redis
) -> None:
    """A failover may lose a row while its message runs; the batch is then submitted again."""
    results = [{"text": "x"}, {"text": "y"}]
    connection.set(
        KEYS.result("b:0"), json.dumps({"status": "SUCCESS", "result": results, "task_id": "b:0"})
    )
    batch = client.submit_batch(urls(2), batch_id="b")
    outcome = ledger.claim(take(connection)).outcome
    assert outcome is not None
    store(ledger, "b:0", outcome.results or [])
    assert batch.progress().finished
    assert [result.text for result in batch.results(timeout=1)] == ["x", "y"]


def test_a_prefix_begins_every_key(redis_url: str, connection: redis.Redis) -> None:
    settings = ClientSettings(redis_url=redis_url, key_prefix="a:")
    ledger = Ledger(connection, Keys("a:"))
    with Client(settings=settings) as client:
        client.submit_batch(urls(40), chunk_items=2)
        job = client.caption(b"\x89PNG")
        ledger.claim(job.id)
        store(ledger, job.id, [contract.failure("internal", "x")])
        ledger.sweep(60)
    assert [key for key in connection.keys("*") if not key.startswith(b"a:")] == []


def test_all_operations_keep_every_open_job_in_one_place(
    client: Client, ledger: Ledger, connection: redis.Redis
) -> None:
    """Random operations, as consumers that live and die do them; then everything ends."""
    rng = Random(3)
    impatient = Ledger(connection, lease_s=NO_LEASE)
    batches = [client.submit_batch(urls(30), chunk_items=3) for _ in range(4)]
    begun: set[str] = set()
    for _ in range(600):
        act = rng.randrange(5)
        if act == 0 and connection.llen("bulk"):
            take(connection)
        elif act == 1 and connection.llen("bulk"):
            task_id = take(connection)
            if rng.choice([ledger, impatient]).claim(task_id).run:
                begun.add(task_id)
        elif act == 2 and begun:
            store(ledger, begun.pop(), [{"text": "x"}] * 3)
        elif act == 3:
            connection.delete(KEYS.sweeper)
            impatient.sweep(0.001)
        elif begun:
            ledger.heartbeat(begun)
        places = [
            *connection.zrange(KEYS.released(Queue.BULK), 0, -1),
            *connection.zrange(KEYS.running, 0, -1),
        ]
        for batch in batches:
            places += connection.lrange(KEYS.lane(Queue.BULK, batch.id), 0, -1)
        assert sorted(places) == sorted(connection.zrange(KEYS.open, 0, -1))
    while connection.exists(KEYS.open):
        connection.delete(KEYS.sweeper)
        impatient.sweep(0.001)
        while connection.llen("bulk"):
            task_id = take(connection)
            if impatient.claim(task_id).run:
                store(ledger, task_id, [{"text": "x"}] * 3)
    for batch in batches:
        assert [result.index for result in batch.results(timeout=1)] == list(range(30))
    immortal = [key for key in connection.keys("*") if connection.ttl(key) == -1]
    assert immortal == []


def test_a_dead_letter_stays_for_as_long_as_its_row(
    client: Client, connection: redis.Redis
) -> None:
    failed = [contract.failure("internal", "x")]
    stored = json.dumps({"status": "SUCCESS", "result": failed, "task_id": "1"})
    ledger = Ledger(connection)
    job = client.caption(b"\x89PNG")
    ledger.finish(job.id, stored, 1, dead=True)
    # One that is kept for a short time takes nobody else's along
    client.submit_batch(urls(1), keep_s=1, batch_id="short")
    ledger.finish("short:0", stored, 1, dead=True)
    assert connection.ttl(KEYS.dead) > 1000
    assert connection.zcard(KEYS.dead) == 2
    connection.delete(KEYS.row("short:0"))
    connection.zadd(KEYS.dead, {"short:0": 1})
    ledger.finish(client.caption("https://x/1.jpg").id, stored, 1, dead=True)
    assert connection.zscore(KEYS.dead, "short:0") is None


def test_the_images_of_what_failed_are_kept_as_long_as_its_results(
    client: Client, ledger: Ledger, connection: redis.Redis
) -> None:
    client.submit_batch([b"\x89PNG"], keep_s=7 * 24 * 3600, batch_id="long")
    store(ledger, "long:0", [contract.failure("image_invalid", "x")])
    (blob,) = connection.keys("blipline:blob:*")
    assert connection.ttl(blob) > 6 * 24 * 3600


def test_a_full_redis_still_cancels_and_deletes(client: Client, connection: redis.Redis) -> None:
    batch = client.submit_batch(urls(4), chunk_items=2)
    finished = Ledger(connection)
    store(finished, f"{batch.id}:0", [contract.failure("internal", "x")] * 2)
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
    client: Client, ledger: Ledger, connection: redis.Redis
) -> None:
    batch = client.submit_batch([{"image": "blob:" + "0" * 64}, {"image": b""}])
    store(ledger, f"{batch.id}:0", [contract.failure("image_unreachable", "gone")] * 2)
    assert batch.progress().finished
    assert not connection.exists(KEYS.open, KEYS.depth, KEYS.blob_users)
    batch.delete()


def test_an_ended_job_takes_no_place_in_celerys_hands(
    client: Client, connection: redis.Redis
) -> None:
    """Its row is kept for a retry, and its id may stand in a lane twice."""
    impatient = Ledger(connection, lease_s=NO_LEASE)
    client.submit_batch(urls(40), chunk_items=2, batch_id="first")
    for _ in range(2):
        batch = client.submit_batch(urls(40), chunk_items=2, batch_id="again")
        if not _:
            batch.delete()
    for number in range(20):
        store(impatient, f"again:{number}", [contract.failure("internal", "x")] * 2)
    batch = client.submit_batch(urls(2), batch_id="last")
    seen = set()
    for _ in range(80):
        if connection.llen("bulk"):
            seen.add(task_id := take(connection))
            store(impatient, task_id, [{"text": "x"}] * 2)
    assert "last:0" in seen
    assert not connection.exists(KEYS.released(Queue.BULK), KEYS.open)


def test_an_id_that_is_used_again_gets_no_answers_of_its_earlier_life(
    client: Client, ledger: Ledger, connection: redis.Redis
) -> None:
    client.submit_batch(urls(2), batch_id="b")
    (old,) = ledger.records(["b:0"])
    assert old is not None
    assert ledger.claim("b:0", old.generation).run
    client.batch("b").delete()
    batch = client.submit_batch(({"image": f"https://new/{n}.jpg"} for n in range(2)), batch_id="b")
    # The old consumer ends, and an old message comes once more
    stored = json.dumps({"status": "SUCCESS", "result": [{"text": "old"}] * 2, "task_id": "b:0"})
    ledger.finish("b:0", stored, 0, generation=old.generation)
    assert batch.progress().done == 0
    again = ledger.claim("b:0", old.generation)
    assert (again.run, again.outcome) == (False, None)
    (new,) = ledger.records(["b:0"])
    assert new is not None
    assert ledger.claim("b:0", new.generation).run


def test_a_begin_whose_answer_was_lost_is_answered_again(
    client: Client, ledger: Ledger, connection: redis.Redis
) -> None:
    client.submit_batch(urls(2), batch_id="b")
    for _ in range(2):
        what, _, attempts, *_ = ledger._call("begin", "b:0", "", "the same call", 30)
        assert (what, attempts) == (b"run", 1)
    assert not ledger.claim("b:0").run


def test_a_consumer_that_lives_takes_back_what_was_given_up_in_an_outage(
    client: Client, ledger: Ledger, connection: redis.Redis
) -> None:
    job = client.caption("https://x/1.jpg")
    ledger.claim(take(connection, "interactive"))
    assert Ledger(connection, lease_s=NO_LEASE).sweep(0.001) == 1
    ledger.heartbeat([job.id])
    assert job.status() == "running"
    assert not ledger.claim(take(connection, "interactive")).run


def test_the_script_and_the_contract_say_the_same() -> None:
    script = resources.files("producer.ledger").joinpath("ledger.lua").read_text()
    assert f"local UPLOAD_TTL_S = {contract.UPLOAD_TTL_S}\n" in script


def test_books_of_an_older_form_are_understood(
    client: Client, ledger: Ledger, connection: redis.Redis
) -> None:
    job = client.caption(b"\x89PNG")
    (sha,) = connection.hkeys(KEYS.blob_users)
    connection.hset(KEYS.blob_users, sha, "1 4")
    connection.hset(KEYS.attempts, job.id, 1)
    assert ledger.claim(job.id).attempts == 2
    store(ledger, job.id, [{"text": "x"}])
    assert not connection.exists(KEYS.blob_users, KEYS.attempts, KEYS.depth)
