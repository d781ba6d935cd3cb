"""The actions of Flower's pages do what they say; those without an effect on threads say so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from demo.stack import running_redis
from producer import Client
from tests.consumer.runners import KEYS
from tests.consumer.test_celery import count, running_consumer
from tests.flower.api import FlowerAPI, running_api
from tests.redis_servers import wait_until

ITEMS = [{"image": "https://x/1.jpg", "custom_id": "one"}]
THREADS = 2


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The Redis of a consumer that runs two chunks at a time."""
    with (
        running_redis() as url,
        running_consumer(url, THREADS),
        redis.Redis.from_url(url) as connection,
    ):
        wait_until(lambda: bool(connection.exists("test:ready")), "a consumer")
        yield url


@pytest.fixture(scope="module")
def flower(url: str) -> Iterator[FlowerAPI]:
    with running_api(url, READ_ONLY="false") as api:
        wait_until(lambda: bool(api.workers()), "Flower's workers")
        yield api


@pytest.fixture(scope="module")
def worker(flower: FlowerAPI) -> str:
    (name,) = flower.workers()
    return str(name)


@pytest.fixture
def server(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url) as connection:
        connection.delete("test:go", "test:started", "test:runs")
        yield connection
        connection.set("test:go", 1)
        wait_until(lambda: not connection.exists(KEYS.open, "unacked"), "an idle consumer")


@pytest.fixture
def user(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def runs(server: redis.Redis, number: int) -> None:
    wait_until(lambda: count(server, "runs") == number, f"{number} running chunks")


@pytest.mark.parametrize("terminate", ["false", "true"])
def test_revoke_cancels_a_running_and_a_waiting_chunk(
    server: redis.Redis, user: Client, flower: FlowerAPI, terminate: str
) -> None:
    first, second = user.submit_batch(ITEMS), user.caption("https://x/2.jpg")
    runs(server, THREADS)
    waiting = user.submit_batch(ITEMS)
    for batch in (first, waiting):
        chunk = f"{batch.id}:0"
        assert flower.act(f"task/revoke/{chunk}", terminate=terminate) == (
            200,
            f"Revoked '{chunk}'",
        )
        (result,) = batch.results(timeout=30)
        assert (result.custom_id, result.error and result.error.code) == ("one", "cancelled")
        # Also the one that was revoked before any consumer had it.
        assert flower.wait_for(chunk, "REVOKED")["kwargs"] == "'one': https://x/1.jpg"
    server.set("test:go", 1)
    assert second.result(30) == "done"
    assert list(user.dead) == []


def test_a_running_job_that_is_deleted_ends_in_flower(
    server: redis.Redis, user: Client, flower: FlowerAPI
) -> None:
    job = user.caption("https://x/1.jpg")
    runs(server, 1)
    job.delete()
    flower.wait_for(job.id, "REVOKED")


def test_flower_shows_the_outcome_of_a_job(
    server: redis.Redis, user: Client, flower: FlowerAPI
) -> None:
    server.set("test:go", 1)
    job = user.ask("https://u:pw@x.org/1.jpg?sig=SECRET", "what is it?")
    shown = flower.wait_for(job.id, "SUCCESS")
    assert shown["kwargs"] == "https://x.org/1.jpg?… 'what is it?'"
    assert shown["result"] == "done: 'done'"


def test_the_pool_grows_and_shrinks(
    server: redis.Redis, user: Client, flower: FlowerAPI, worker: str
) -> None:
    status, message = flower.act(f"worker/pool/grow/{worker}", n=2)
    assert (status, message.startswith("Growing")) == (200, True)
    jobs = [user.caption("https://x/1.jpg") for _ in range(THREADS + 3)]
    runs(server, THREADS + 2)
    assert flower.act(f"worker/pool/shrink/{worker}", n=3)[0] == 200
    server.set("test:go", 1)
    assert [job.result(30) for job in jobs] == ["done"] * len(jobs)
    server.delete("test:go", "test:runs")
    jobs = [user.caption("https://x/1.jpg") for _ in range(2)]
    runs(server, 1)
    time.sleep(1)
    assert count(server, "runs") == 1
    assert flower.act(f"worker/pool/grow/{worker}", n=1)[0] == 200
    runs(server, 2)


@pytest.mark.parametrize(
    ("action", "n"), [("shrink", 2), ("shrink", 0), ("grow", -1), ("grow", 1e6)]
)
def test_a_size_that_a_pool_cannot_have_is_refused(
    flower: FlowerAPI, worker: str, action: str, n: float
) -> None:
    status, message = flower.act(f"worker/pool/{action}/{worker}", n=int(n))
    assert status == 403
    assert "the pool has 2 threads, and may have 1 to 1024" in message


@pytest.mark.parametrize(
    ("path", "arguments", "remedy"),
    [
        ("task/timeout/blipline.caption", {"soft": 1, "hard": 2}, "Submit jobs with a deadline"),
        ("worker/pool/restart/{worker}", {}, "shut the worker down"),
        ("worker/pool/autoscale/{worker}", {"min": 1, "max": 3}, "grow or shrink its pool"),
        ("task/rate-limit/blipline.caption", {"ratelimit": "often"}, "Invalid rate limit"),
    ],
)
def test_an_action_without_an_effect_on_threads_is_refused_with_its_remedy(
    flower: FlowerAPI, worker: str, path: str, arguments: dict[str, Any], remedy: str
) -> None:
    if path.startswith("task/"):
        arguments = {**arguments, "workername": worker}
    status, message = flower.act(path.format(worker=worker), **arguments)
    assert status == 403
    assert remedy in message


def test_a_queue_is_left_and_taken_again(
    server: redis.Redis, user: Client, flower: FlowerAPI, worker: str
) -> None:
    answer = (200, "no longer consuming from bulk")
    assert flower.act(f"worker/queue/cancel-consumer/{worker}", queue="bulk") == answer
    server.set("test:go", 1)
    batch = user.submit_batch(ITEMS)
    assert user.caption("https://x/1.jpg").result(30) == "done"
    time.sleep(1)
    assert not batch.progress().finished
    assert flower.act(f"worker/queue/add-consumer/{worker}", queue="bulk")[0] == 200
    assert [result.text for result in batch.results(timeout=30)] == ["done"]


def test_a_rate_limit_spaces_the_chunks_of_a_task(
    server: redis.Redis, user: Client, flower: FlowerAPI, worker: str
) -> None:
    server.set("test:go", 1)
    path, answer = "task/rate-limit/blipline.vqa", "new rate limit set successfully"
    assert flower.act(path, ratelimit="1/s", workername=worker) == (200, answer)
    start = time.monotonic()
    jobs = [user.ask("https://x/1.jpg", "what is it?") for _ in range(4)]
    assert user.caption("https://x/1.jpg").result(30) == "done"
    assert [job.result(30) for job in jobs] == ["done"] * 4
    assert time.monotonic() - start > 2
    assert flower.act(path, ratelimit="0", workername=worker)[0] == 200


def test_no_page_shows_images_or_secrets_of_messages(
    server: redis.Redis, url: str, flower: FlowerAPI, worker: str
) -> None:
    from celery import Celery

    item = {"image": "data:image/png;base64,AAAABBBB", "custom_id": "https://u:pw@h/p?sig=SECRET"}
    with Celery("other", broker=url, backend=url, set_as_current=False) as program:
        program.conf.task_send_sent_event = True
        sent = program.send_task("blipline.caption", kwargs={"items": [item] * 5}, queue="bulk")
        runs(server, 1)
        shown = [str(flower.task(sent.id)), str(flower.workers()), flower.page(f"/worker/{worker}")]
        assert "5 items" in shown[2]
        server.set("test:go", 1)
        flower.wait_for(sent.id, "SUCCESS")
        shown += [str(flower.task(sent.id)), flower.page(f"/task/{sent.id}")]
    for text in shown:
        assert not [secret for secret in ("AAAA", "pw", "SECRET") if secret in text]
