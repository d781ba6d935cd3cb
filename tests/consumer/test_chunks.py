"""The chunk runner with a real Redis and a real engine process that only echoes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from producer import Client, contract
from producer.ledger.leases import Leases
from producer.ledger.ledger import Ledger
from tests.consumer.runners import (
    KEYS,
    StartRunner,
    codes,
    maintained,
    picture,
    run_captions,
    run_job,
)


def test_of_a_custom_id_that_is_too_long_the_first_characters_come_back(
    start_runner: StartRunner, blob: str
) -> None:
    with start_runner() as runner:
        results = run_captions(runner, [{"image": blob, "custom_id": "n" * 513}])
    assert codes(results) == ["option_invalid"]
    assert results[0]["custom_id"] == "n" * 512


@pytest.mark.parametrize("items", [None, [], {}, "x", [{}] * 1025])
def test_a_message_without_a_list_of_items_gets_one_error(
    start_runner: StartRunner, items: Any
) -> None:
    with start_runner() as runner:
        assert codes(run_captions(runner, items)) == ["option_invalid"]


def test_invalid_options_fail_every_item_by_name(start_runner: StartRunner, blob: str) -> None:
    with start_runner() as runner:
        results = run_captions(runner, [{"image": blob, "custom_id": "a"}] * 2, {"beams": 5})
    assert codes(results) == ["option_invalid"] * 2
    assert "beams: no such name" in results[0]["error"]["message"]
    assert results[0]["custom_id"] == "a"


def test_a_second_delivery_joins_the_first(
    start_runner: StartRunner, connection: redis.Redis, blob: str
) -> None:
    both: list[Any] = []

    def deliver() -> None:
        both.append(run_captions(runner, [{"image": blob}]))

    with start_runner("--hold") as runner, maintained(runner, Leases(connection)):
        first = threading.Thread(target=deliver)
        first.start()
        while not connection.zscore(KEYS.running, "t"):
            pass
        second = threading.Thread(target=deliver)
        second.start()
        Ledger(connection).cancel("t")
        first.join(20)
        second.join(20)
    assert [codes(results) for results in both] == [["cancelled"], ["cancelled"]]
    assert both[0] is both[1]


def test_a_second_delivery_of_a_job_of_the_ledger_leaves_it_to_the_first(
    start_runner: StartRunner, connection: redis.Redis, client: Client
) -> None:
    job = client.caption(picture())
    leases = Leases(connection)
    with (
        start_runner("--hold") as runner,
        maintained(runner, leases),
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(run_job, connection, runner, job.id)
        while not connection.zscore(KEYS.running, job.id):
            pass
        # In the same consumer, and in another one
        assert run_job(connection, runner, job.id) is None
        with start_runner("--hold") as second_runner:
            assert run_job(connection, second_runner, job.id) is None
        job.cancel()
        assert codes(first.result(20)) == ["cancelled"]


def script_calls(connection: redis.Redis) -> int:
    calls: int = connection.info("commandstats")["cmdstat_evalsha"]["calls"]
    return calls


def test_a_plain_message_waits_for_the_consumer_that_runs_it(
    start_runner: StartRunner, connection: redis.Redis, blob: str
) -> None:
    leases = Leases(connection)
    assert leases.claim("t").run
    with start_runner() as runner, ThreadPoolExecutor(1) as pool:
        before = script_calls(connection)
        second = pool.submit(run_captions, runner, [{"image": blob}])
        while script_calls(connection) == before:
            pass
        leases.finish("t", '{"status": "SUCCESS", "result": [{"text": "first"}]}', 0)
        assert second.result(20) == [{"text": "first"}]


def test_a_requeued_chunk_keeps_the_results_that_it_has(
    start_runner: StartRunner,
    finish: Callable[..., None],
    client: Client,
    connection: redis.Redis,
) -> None:
    batch = client.submit_batch([picture(), {"image": "ftp://x", "custom_id": "b"}, picture()])
    failed = contract.failure("image_blocked", "ftp")
    finish(f"{batch.id}:0", [{"text": "stored"}, {"custom_id": "b", **failed}, failed])
    assert batch.progress().failed == 2
    assert batch.retry_failed() == 2
    assert (batch.progress().done, batch.progress().failed) == (0, 0)
    with start_runner() as runner:
        results = run_job(connection, runner, f"{batch.id}:0")
    assert (results[0], results[1]["custom_id"]) == ({"text": "stored"}, "b")
    assert codes(results) == ["ok", "image_blocked", "ok"]


@pytest.mark.parametrize("offset_s", [-3600, 3600])
def test_a_deadline_does_not_depend_on_the_clock_of_the_worker(
    start_runner: StartRunner,
    client: Client,
    connection: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    offset_s: int,
) -> None:
    job = client.caption(picture(), deadline_s=600)
    late = client.caption(picture(), deadline_s=600)
    connection.zadd(KEYS.deadlines, {late.id: connection.time()[0] - 1})
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + offset_s)
    with start_runner() as runner:
        assert codes(run_job(connection, runner, job.id)) == ["ok"]
        assert codes(run_job(connection, runner, late.id)) == ["deadline_exceeded"]


def test_a_job_that_kills_every_consumer_is_given_up(
    start_runner: StartRunner, client: Client, connection: redis.Redis
) -> None:
    job = client.caption(picture())
    connection.hset(KEYS.attempts, job.id, contract.MAX_ATTEMPTS)
    with start_runner() as runner:
        assert codes(run_job(connection, runner, job.id)) == ["poisoned"]


DEADLY = """
import os, signal, sys, redis
from producer.contract import Task
from producer.ledger import Leases
from worker.consumer.chunks import ChunkRunner

class DeadlyHandler:
    def answer(self, task, items, options, state):
        if any(item["custom_id"] in ("3", "7") for item in items):
            os.kill(os.getpid(), signal.SIGKILL)
        return [{"text": item["custom_id"]} for item in items]

def consume():
    leases = Leases(redis.Redis.from_url(sys.argv[1]), lease_s=0)
    runner = ChunkRunner(leases, DeadlyHandler())
    results = runner.run(sys.argv[2], Task.CAPTION, None, None, interactive=True)
    print(*(result.get("text") or result["error"]["code"] for result in results), flush=True)
    os._exit(0)

# Forks spare the imports; each is a consumer that knows nothing of the others.
for _ in range(int(sys.argv[3])):
    child = os.fork() or consume()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != -signal.SIGKILL:
        sys.exit(code)
"""


def test_an_item_that_kills_consumers_is_isolated_and_its_neighbours_are_answered(
    client: Client, redis_url: str
) -> None:
    items = [{"image": "https://x/y.png", "custom_id": str(n)} for n in range(9)]
    batch = client.submit_batch(items)
    attempts = str(contract.MAX_ATTEMPTS)
    command = [sys.executable, "-c", DEADLY, redis_url, f"{batch.id}:0", attempts]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["0", "1", "2", "poisoned", "4", "5", "6", "poisoned", "8"]


def test_a_chunk_that_has_a_result_is_not_run_again(
    start_runner: StartRunner, finish: Callable[..., None], blob: str, connection: redis.Redis
) -> None:
    finish("t", [{"text": "stored before"}])
    with start_runner() as runner:
        assert run_captions(runner, [{"image": blob}]) == [{"text": "stored before"}]
    assert not connection.exists(KEYS.running)


@pytest.mark.parametrize("cancelled", ["batch", "batch:3"])
def test_a_chunk_that_an_older_client_cancelled_never_runs(
    start_runner: StartRunner, connection: redis.Redis, blob: str, cancelled: str
) -> None:
    connection.set(KEYS.cancelled(cancelled), 1)
    with start_runner() as runner:
        results = run_captions(runner, [{"image": blob}, {"image": blob}], task_id="batch:3")
    assert codes(results) == ["cancelled"] * 2
