"""Cached results of erased jobs and batches, with a chunk runner and the ledger."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from producer import Client, Task
from producer.contract import ItemResult
from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from tests.consumer.runners import KEYS, StartRunner, run_job
from worker.consumer.chunks import ChunkRunner
from worker.consumer.result_cache import ResultCache

ANSWER: ItemResult = {"text": "x"}


def cached(connection: redis.Redis) -> int:
    keys: Any = connection.keys(KEYS.cached_result("*"))
    return len(keys)


def ask(
    client: Client, connection: redis.Redis, runner: ChunkRunner, *items: dict[str, Any]
) -> Any:
    """Run a batch; return its handle and its texts, which name the process of the engine."""
    batch = client.submit_batch(items)
    results = run_job(connection, runner, f"{batch.id}:0")
    return batch, [result["text"] for result in results]


@pytest.mark.parametrize("erased", ["stored", "used"])
def test_an_erased_batch_is_computed_anew_and_others_keep_their_results(
    start_runner: StartRunner, connection: redis.Redis, client: Client, blob: str, erased: str
) -> None:
    items = [{"image": blob, "prompt": prompt} for prompt in ("a", "b")]
    with start_runner() as runner:
        stored, texts = ask(client, connection, runner, *items)
        used, again = ask(client, connection, runner, *items)
        _, unrelated = ask(client, connection, runner, {"image": blob, "prompt": "c"})
    assert again == texts
    assert cached(connection) == 3
    (stored if erased == "stored" else used).delete()
    assert cached(connection) == 1
    with start_runner("--other") as runner:
        _, anew = ask(client, connection, runner, *items)
        assert not set(anew) & set(texts)
        assert ask(client, connection, runner, {"image": blob, "prompt": "c"})[1] == unrelated


def test_a_batch_that_only_makes_room_leaves_its_results_to_others(
    start_runner: StartRunner, connection: redis.Redis, client: Client, blob: str
) -> None:
    item = {"image": blob}
    with start_runner() as runner:
        batch, texts = ask(client, connection, runner, item)
    batch.delete(keep_cached=True)
    assert not connection.exists(KEYS.answers_of(f"{batch.id}:0"))
    with start_runner("--other") as runner:
        assert ask(client, connection, runner, item)[1] == texts


def test_a_single_job_is_erased_with_its_result_and_growing_text(
    start_runner: StartRunner, connection: redis.Redis, client: Client, blob: str
) -> None:
    job = client.submit({"image": blob}, Task.CAPTION)
    with start_runner() as runner:
        run_job(connection, runner, job.id)
    connection.set(KEYS.partial_text(job.id), "a cat")
    assert cached(connection) == 1
    job.delete()
    names: Any = connection.keys(f"*{job.id}*")
    # No result was stored, so it still ran, and its consumer has to be stopped
    assert (cached(connection), names) == (0, [KEYS.cancelled(job.id).encode()])


@pytest.mark.parametrize("looks_up", ["before", "after", "both"])
def test_a_job_that_is_erased_while_it_runs_caches_nothing(
    connection: redis.Redis, client: Client, looks_up: str
) -> None:
    cache, key = ResultCache(connection, 60, KEYS), KEYS.cached_result("0" * 32)
    job = client.caption("https://x/1.jpg")
    Leases(connection).claim(job.id)
    if looks_up != "after":
        assert cache.lookup(job.id, [key, None]) == [None, None]
    job.delete()
    if looks_up != "before":
        assert cache.lookup(job.id, [key]) == [None]
    cache.put(job.id, [(key, ANSWER)])
    assert connection.keys("*answer*") == []
    # Its id is free, also for the same request
    again = client.submit({"image": "https://x/1.jpg"}, job_id=job.id)
    Leases(connection).claim(again.id)
    cache.lookup(job.id, [key])
    cache.put(job.id, [(key, ANSWER)])
    assert cache.lookup(job.id, [key]) == [ANSWER]


def test_a_job_of_an_older_worker_is_erased_without_its_result(
    connection: redis.Redis, client: Client
) -> None:
    job = client.caption("https://x/1.jpg")
    connection.set(KEYS.cached_result("0" * 64), "{}")
    job.delete()
    assert cached(connection) == 1


def test_only_the_results_of_the_own_deployment_are_erased(
    connection: redis.Redis, client: Client
) -> None:
    digest = "0" * 32
    others = [Keys("other:").cached_result(digest), "precious", KEYS.cached_result("1" * 32)]
    for name in others:
        connection.set(name, "{}")
    job = client.caption("https://x/1.jpg")
    connection.set(KEYS.cached_result(digest), "{}")
    connection.set(KEYS.answers_of(job.id), f"{digest}precious")
    job.delete()
    assert not connection.exists(KEYS.cached_result(digest))
    assert connection.exists(*others) == len(others)


def test_a_list_outlives_its_results_and_is_bounded(
    connection: redis.Redis, client: Client
) -> None:
    cache = ResultCache(connection, 60, KEYS)
    keys = [KEYS.cached_result(f"{number:032}") for number in range(1024)]
    connection.zadd(KEYS.running, {"t": 0})
    for _ in range(3):
        cache.lookup("t", keys)
    cache.put("t", [(key, ANSWER) for key in keys])
    assert connection.strlen(KEYS.answers_of("t")) == 32 * len(keys)
    assert connection.ttl(KEYS.answers_of("t")) > connection.ttl(keys[-1]) > 0
    client.job("t").delete()
    assert cached(connection) == 0


def test_the_results_of_large_chunks_are_erased_in_several_calls(
    connection: redis.Redis, client: Client
) -> None:
    digests = [f"{number:032}" for number in range(4 * 1024)]
    connection.mset({KEYS.cached_result(digest): "{}" for digest in digests})
    for chunk in range(4):
        listed = "".join(digests[1024 * chunk : 1024 * (chunk + 1)])
        connection.set(KEYS.answers_of(f"b:{chunk}"), listed)
    client._ledger.delete_jobs(["absent"])  # loads the script
    connection.config_resetstat()
    client._ledger.delete_jobs([f"b:{chunk}" for chunk in range(4)])
    stats: Any = connection.info("commandstats")
    assert (
        sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))
        >= 2
    )
    assert connection.keys("*answer*") == []
