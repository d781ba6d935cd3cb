"""The result cache in a chunk runner."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from producer.contract import Task
from tests.consumer.runners import KEYS, StartRunner, run_item


def test_the_same_request_gets_the_same_result_again(start_runner: StartRunner, blob: str) -> None:
    item = {"image": blob, "prompt": "a"}
    with start_runner() as runner:
        first = run_item(runner, Task.CAPTION, item, "1")
        named = run_item(runner, Task.CAPTION, {**item, "custom_id": "x"}, "2")
    # When another engine, with another process id, would answer now
    with start_runner() as runner:
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


def test_a_full_redis_does_not_fail_items_that_cannot_be_cached(
    start_runner: StartRunner, connection: redis.Redis, blob: str
) -> None:
    with start_runner() as runner:
        connection.config_set("maxmemory", 1)
        try:
            assert "error" not in run_item(runner, Task.CAPTION, {"image": blob}, "1")
        finally:
            connection.config_set("maxmemory", 0)
