"""Guarantees of the tasks of several model calls, with the whole system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from producer import Client
from producer.contract import MAX_ATTEMPTS, Task
from producer.ledger.keys import Keys
from tests.system.conftest import Stack

PICTURE = Path(__file__).parents[2] / "demo" / "images" / "scene-02.jpg"
#: An item of each task.
ITEMS: dict[Task, dict[str, Any]] = {
    Task.DESCRIBE: {"image": str(PICTURE), "detail": "low"},
    Task.CAPFILT: {"image": str(PICTURE), "texts": ["an orange star", "a dog"]},
}


@pytest.fixture(params=ITEMS, ids=lambda task: task.short)
def task(request: pytest.FixtureRequest) -> Task:
    """Return each of these tasks in turn."""
    task: Task = request.param
    return task


def test_an_item_that_kills_its_consumers_is_a_dead_letter_and_can_be_retried(
    stack: Stack, user: Client, task: Task
) -> None:
    batch_id = f"dead-{task.short}"
    with redis.Redis.from_url(stack.redis_url) as connection:
        connection.hset(Keys().attempts, f"{batch_id}:0", MAX_ATTEMPTS)
    batch = user.submit_batch([ITEMS[task]], task, batch_id=batch_id)
    (dead,) = batch.results(60)
    assert dead.error is not None
    assert dead.error.code == "poisoned"
    letter = user.dead.get(f"{batch_id}:0")
    assert (letter.task, letter.codes) == (task.short, ["poisoned"])
    assert letter.died[0].item.keys() >= ITEMS[task].keys()
    user.dead.retry([letter.id])
    (retried,) = batch.results(60)
    assert (retried.error, retried.custom_id) == (None, dead.custom_id)
    assert retried.description if task is Task.DESCRIBE else retried.filter_result


def test_a_result_is_cached_unless_chance_determines_it(
    stack: Stack, user: Client, task: Task
) -> None:
    with redis.Redis.from_url(stack.redis_url) as connection:

        def new_results(**options: Any) -> int:
            before = len(connection.keys(Keys().cached_result("*")))
            (result,) = user.submit_batch([ITEMS[task]], task, **options).results(60)
            assert result.error is None
            return len(connection.keys(Keys().cached_result("*"))) - before

        assert new_results(temperature=0.8) == 0
        assert [new_results(temperature=0.8, seed=9) for _ in range(2)] == [1, 0]


def test_a_deleted_batch_is_computed_anew(stack: Stack, user: Client, task: Task) -> None:
    def cached() -> set[bytes]:
        with redis.Redis.from_url(stack.redis_url) as connection:
            return set(connection.keys(Keys().cached_result("*")))

    before, batches = cached(), []
    for _ in range(2):
        batches.append(user.submit_batch([{**ITEMS[task], "options": {"seed": 7}}], task))
        (result,) = batches[-1].results(60)
        assert result.error is None
    (new,) = cached() - before
    # The second one has only used the result
    batches[1].delete()
    assert new not in cached()
    (result,) = user.submit_batch([{**ITEMS[task], "options": {"seed": 7}}], task).results(60)
    assert new in cached()
