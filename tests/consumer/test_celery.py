"""A real Celery consumer: revocations, other programs' messages, and clocks that differ."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from celery import Celery, Signature, chord

from demo.stack import running_redis
from producer import Client, State
from tests.consumer.runners import KEYS
from tests.redis_servers import wait_until

ITEMS = [{"image": "https://x/1.jpg", "custom_id": "one"}]


@contextmanager
def running_consumer(url: str, concurrency: int, clock_offset_s: float = 0) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.consumer.celery_consumer", url]
    process = subprocess.Popen([*command, str(concurrency), str(clock_offset_s)])
    try:
        yield
    finally:
        with redis.Redis.from_url(url) as connection:
            connection.set("test:go", 1)
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The Redis of a consumer that runs two chunks at a time."""
    with running_redis() as url, running_consumer(url, 2), redis.Redis.from_url(url) as connection:
        wait_until(lambda: bool(connection.exists("test:ready")), "a consumer")
        yield url


@pytest.fixture
def server(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url) as connection:
        connection.delete("test:go", "test:started", "test:runs", "celery")
        yield connection
        connection.set("test:go", 1)
        wait_until(lambda: not connection.exists(KEYS.open, "unacked"), "an idle consumer")


@pytest.fixture
def program(url: str) -> Iterator[Celery]:
    """Another program, with Celery's default settings."""
    with Celery("other", broker=url, set_as_current=False) as app:
        yield app


@pytest.fixture
def user(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def count(server: redis.Redis, name: str) -> int:
    return int(server.get(f"test:{name}") or 0)


def result_of(server: redis.Redis, task_id: str) -> Any:
    """Wait for the result that Celery's backend stores."""
    wait_until(lambda: bool(server.exists(KEYS.result(task_id))), "the result")
    stored: Any = server.get(KEYS.result(task_id))
    return json.loads(stored)


def tasks_in(server: redis.Redis, queue: str) -> list[str]:
    messages: Any = server.lrange(queue, 0, -1)
    return [json.loads(message)["headers"]["task"] for message in messages]


@pytest.mark.parametrize("terminate", [False, True])
@pytest.mark.parametrize("phase", ["waiting", "running"])
def test_a_revoked_job_is_cancelled_and_a_retry_of_it_runs(
    server: redis.Redis, program: Celery, user: Client, phase: str, terminate: bool
) -> None:
    others = [user.caption("https://x/1.jpg") for _ in range(2 if phase == "waiting" else 0)]
    wait_until(lambda: count(server, "runs") == len(others), "busy slots")
    batch = user.submit_batch(ITEMS)
    if phase == "running":
        wait_until(lambda: count(server, "runs") == 1, "a running job")
    program.control.revoke(f"{batch.id}:0", terminate=terminate)
    (result,) = batch.results(timeout=30)
    assert (result.custom_id, result.error and result.error.code) == ("one", "cancelled")
    assert batch.progress().state is State.FAILED
    assert list(user.dead) == []
    # When it is retried at once, by the same consumer, which remembers the id
    assert batch.retry_failed() == 1
    server.set("test:go", 1)
    assert [result.text for result in batch.results(timeout=30)] == ["done"]
    assert [job.result(30) for job in others] == ["done"] * len(others)


def test_the_start_of_a_running_job_is_that_of_the_ended_one(
    server: redis.Redis, user: Client
) -> None:
    before = time.time()
    job = user.caption("https://x/1.jpg")
    wait_until(lambda: job.status() is State.RUNNING, "a running job")
    running = job.progress()
    assert running.result is None
    assert running.started_at is not None
    assert before - 0.001 <= running.started_at <= time.time()
    server.set("test:go", 1)
    ended = job.progress(wait_s=30)
    assert ended.result is not None
    assert ended.result.started_at == ended.started_at == running.started_at
    assert ended.result.ended_at is not None
    assert ended.result.ended_at >= running.started_at


def test_a_revoked_message_of_another_program_is_revoked(
    server: redis.Redis, program: Celery
) -> None:
    task_id = program.send_task("blipline.caption", kwargs={"items": ITEMS}, queue="bulk").id
    wait_until(lambda: count(server, "runs") == 1, "a running message")
    program.control.revoke(task_id, terminate=True)
    assert result_of(server, task_id)["status"] == "REVOKED"
    # Its rows stop, and its slots are free again.
    wait_until(lambda: not server.exists(KEYS.running), "the end of the rows")


@pytest.mark.parametrize("entry", ["mine", "0123456789ab", 7, ["a"], None])
def test_a_header_named_entry_does_not_swallow_a_message(
    server: redis.Redis, program: Celery, entry: Any
) -> None:
    server.set("test:go", 1)
    headers = {"entry": entry}
    sent = program.send_task("blipline.caption", [ITEMS], queue="interactive", headers=headers)
    assert result_of(server, sent.id)["result"] == [{"custom_id": "one", "text": "done"}]


def test_a_message_without_arguments_is_a_job_only_with_a_generation(
    server: redis.Redis, program: Celery
) -> None:
    headers = {"entry": "mine"}
    sent = program.send_task("blipline.caption", queue="interactive", headers=headers)
    (result,) = result_of(server, sent.id)["result"]
    assert result["error"]["code"] == "option_invalid"


CALLBACKS: dict[str, Callable[[Signature, Signature], Any]] = {
    "link": lambda caption, callback: caption.apply_async(link=callback),
    "chain": lambda caption, callback: (caption | callback).apply_async(),
    "chord": lambda caption, callback: chord([caption, caption], app=caption.app)(callback),
}


# Celery's, in storing the size of a chord.
@pytest.mark.filterwarnings("ignore:Call to deprecated setex")
@pytest.mark.parametrize("kind", CALLBACKS)
def test_a_callback_goes_to_the_queue_of_the_program_that_sent_it(
    server: redis.Redis, url: str, kind: str
) -> None:
    server.set("test:go", 1)
    with Celery("other", broker=url, backend=url, set_as_current=False) as program:
        caption = program.signature("blipline.caption", [ITEMS], options={"queue": "bulk"})
        CALLBACKS[kind](caption, program.signature("other.callback"))
        # While Redis runs: the results that it returned unsubscribe at their end.
        gc.collect()
    wait_until(lambda: tasks_in(server, "celery") == ["other.callback"], "the callback")


def test_a_task_of_an_unknown_name_moves_to_the_default_queue_unchanged(
    server: redis.Redis, program: Celery
) -> None:
    task_id = program.send_task(
        "other.task", args=["ü"], queue="interactive", headers={"mine": 1}, reply_to="me"
    ).id
    wait_until(lambda: tasks_in(server, "celery") == ["other.task"], "the task")
    message: Any = server.lindex("celery", 0)
    headers = json.loads(message)["headers"]
    assert (headers["id"], headers["mine"]) == (task_id, 1)
    assert json.loads(message)["properties"]["reply_to"] == "me"
    with program.connection() as link:
        delivered = link.SimpleQueue("celery").get(timeout=5)
    assert delivered.payload[0] == ["ü"]
    assert not server.exists(KEYS.result(task_id))


def test_an_unknown_task_of_blipline_fails(server: redis.Redis, program: Celery) -> None:
    task_id = program.send_task("blipline.segment", queue="interactive").id
    stored = result_of(server, task_id)
    assert (stored["status"], stored["result"]["exc_type"]) == ("FAILURE", "NotRegistered")


def test_an_unknown_task_in_a_default_queue_that_is_consumed_fails(
    server: redis.Redis, program: Celery
) -> None:
    """Its message would come back for ever."""
    assert program.control.add_consumer("celery", reply=True, timeout=60, limit=1)
    try:
        task_id = program.send_task("other.task", queue="celery").id
        assert result_of(server, task_id)["result"]["exc_type"] == "NotRegistered"
    finally:
        program.control.cancel_consumer("celery", reply=True, timeout=60, limit=1)


def test_a_worker_whose_clock_is_an_hour_ahead_runs_no_message_twice(
    server: redis.Redis, url: str, program: Celery
) -> None:
    ids = [program.send_task("blipline.caption", [ITEMS], queue="bulk").id for _ in range(2)]
    wait_until(lambda: count(server, "runs") == 2, "running messages")
    # The other consumer takes the messages for some that were lost an hour ago
    with running_consumer(url, 2, 3600):
        wait_until(lambda: count(server, "started") == 4, "the second deliveries")
        server.set("test:go", 1)
        stored = [result_of(server, task_id)["result"] for task_id in ids]
        assert stored == [[{"custom_id": "one", "text": "done"}]] * 2
        wait_until(lambda: not server.exists("unacked"), "the acknowledgements")
    assert count(server, "runs") == 2
