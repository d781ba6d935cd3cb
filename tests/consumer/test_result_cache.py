"""The result cache in a chunk runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import redis

from producer.contract import ItemResult, Task
from tests.consumer.runners import KEYS, StartRunner, run_item
from tests.redis_servers import wait_until
from worker.consumer.result_cache import ResultCache


def cache_key(number: int) -> str:
    return KEYS.cached_result(f"{number:032}")


def store(
    cache: ResultCache, connection: redis.Redis, results: Sequence[tuple[str, ItemResult]]
) -> None:
    """Store results as a running job does."""
    connection.zadd(KEYS.running, {"t": 0})
    cache.lookup("t", [key for key, _ in results])
    cache.put("t", results)


def test_the_same_request_gets_the_same_result_again(start_runner: StartRunner, blob: str) -> None:
    item = {"image": blob, "prompt": "a"}
    with start_runner() as runner:
        first = run_item(runner, Task.CAPTION, item, "1")
        named = run_item(runner, Task.CAPTION, {**item, "custom_id": "x"}, "2")
    # When another engine, with another process id, would answer now
    with start_runner("--other") as runner:
        assert run_item(runner, Task.CAPTION, item, "3") == first
        assert run_item(runner, Task.CAPTION, item, "4", temperature=1.0, seed=1) != first
        assert run_item(runner, Task.CAPTION, {**item, "prompt": "b"}, "5") != first
    assert named == {"custom_id": "x", **first}


@pytest.mark.parametrize("options", [{"temperature": 1.0}, {"deadline": 4e9}])
def test_only_deterministic_results_are_cached(
    start_runner: StartRunner, connection: redis.Redis, blob: str, options: dict[str, Any]
) -> None:
    with start_runner() as runner:
        run_item(runner, Task.CAPTION, {"image": blob}, "1", **options)
        run_item(runner, Task.VQA, {"image": blob, "question": " "}, "2")
    cached = connection.keys(KEYS.cached_result("*"))
    # A deadline changes nothing about the result.
    assert len(cached) == ("deadline" in options)
    assert all(connection.ttl(key) > 0 for key in cached)


@pytest.mark.parametrize("max_bytes", [0, 1 << 20])
def test_the_cache_is_bounded_whatever_the_results_are(
    connection: redis.Redis, max_bytes: int
) -> None:
    cache = ResultCache(connection, 3600, KEYS, max_bytes=max_bytes)
    # As after matches with long texts, whose jobs were deleted: nothing else counts them.
    results = [
        (cache_key(1000 * size + number), ItemResult(text="x" * size))
        for size in (1, 1000, 100_000)
        for number in range(32)
    ]
    before = connection.info("memory")["used_memory"]
    for _ in range(2):
        for start in range(0, len(results), 16):
            store(cache, connection, results[start : start + 16])
    cached = [result for result in cache.lookup("t", [key for key, _ in results]) if result]
    if max_bytes:
        # The first ones are kept, a result that is stored again counts once.
        assert cached[:64] == [result for _, result in results[:64]]
        assert 64 < len(cached) < len(results)
        assert connection.info("memory")["used_memory"] - before < 1.5 * max_bytes
    else:
        assert len(cached) == len(results)


def test_expired_results_make_room(connection: redis.Redis) -> None:
    cache = ResultCache(connection, 1, KEYS, max_bytes=1000)
    first, second = cache_key(1), cache_key(2)
    store(cache, connection, [(first, ItemResult(text="x" * 600))])
    wait_until(lambda: not connection.exists(first), "the end of the first")

    def is_stored() -> bool:
        store(cache, connection, [(second, ItemResult(text="x" * 600))])
        return cache.lookup("t", [second]) != [None]

    wait_until(is_stored, "room for the second")


def test_a_full_redis_does_not_fail_items_that_cannot_be_cached(
    start_runner: StartRunner, connection: redis.Redis, blob: str
) -> None:
    with start_runner() as runner:
        connection.config_set("maxmemory", 1)
        try:
            assert "error" not in run_item(runner, Task.CAPTION, {"image": blob}, "1")
        finally:
            connection.config_set("maxmemory", 0)
