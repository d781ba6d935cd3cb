"""The chunk runner against a real Redis and a real engine process that only echoes."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image

from producer import Client, contract
from producer.contract import Task
from producer.ledger import blobs
from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger
from producer.ledger.records import Claim
from producer.net.address_policy import AddressPolicy
from worker.consumer.chunks import ChunkRunner
from worker.consumer.maintenance import Maintenance
from worker.consumer.pipeline import ItemPipeline, NullPipeline
from worker.consumer.result_cache import ResultCache
from worker.engine.client import EngineClient
from worker.images.fetcher import Fetcher
from worker.images.loader import ImageLoader

ECHO = Path(__file__).parents[1] / "echo_engine.py"
KEYS = Keys()
Start = Callable[..., AbstractContextManager[ChunkRunner]]


@pytest.fixture
def running(connection: redis.Redis) -> Start:
    """`running(*engine_options)`: a runner with an engine process of its own."""

    @contextmanager
    def start(*options: str) -> Iterator[ChunkRunner]:
        with tempfile.TemporaryDirectory(prefix="blipline-test-") as directory:
            socket = Path(directory, "engine.sock")
            process = subprocess.Popen([sys.executable, str(ECHO), str(socket), *options])
            engine = EngineClient(socket, wait_s=20)
            fetcher = Fetcher(
                connection, image_root=None, max_bytes=9999, timeout_s=1, guard=AddressPolicy()
            )
            engine.start()
            info = engine.info(20)
            pictures = ImageLoader(fetcher, engine, info, 1_000_000)
            answerer = ItemPipeline(pictures, engine, ResultCache(connection, 60))
            yield ChunkRunner(Ledger(connection), answerer)
            engine.close()
            fetcher.close()
            process.kill()
            process.wait()

    return start


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def blob(connection: redis.Redis) -> str:
    return blobs.upload(connection, Ledger(connection), [picture()])[0]


def caption(runner: ChunkRunner, items: Any, options: Any = None, task_id: str = "t") -> list[Any]:
    return runner.run(task_id, Task.CAPTION, items, options, interactive=False)


def codes(results: list[Any]) -> list[str]:
    return [one["error"]["code"] if "error" in one else "ok" for one in results]


def test_one_bad_item_never_harms_its_neighbours(
    running: Start, connection: redis.Redis, blob: str
) -> None:
    (broken,) = blobs.upload(connection, Ledger(connection), [b"no image"])
    items = [
        {"image": blob, "prompt": "one"},
        {"image": broken},
        {"image": "blob:" + "0" * 64},
        {"image": "ftp://x"},
        {"image": "http://127.0.0.1/x.png"},
        {"image": blob, "question": "not for captions"},
        "nonsense",
        {"image": blob, "prompt": "eight", "custom_id": "h"},
    ]
    with running() as runner:
        results = caption(runner, items)
    assert codes(results) == [
        "ok",
        "image_invalid",
        "image_unreachable",
        "image_blocked",
        "image_blocked",
        "option_invalid",
        "option_invalid",
        "ok",
    ]
    assert results[0]["text"].startswith("one by")
    assert results[7]["text"].startswith("eight by")
    assert results[7]["custom_id"] == "h"


def test_of_a_custom_id_that_is_too_long_the_beginning_comes_back(
    running: Start, blob: str
) -> None:
    with running() as runner:
        results = caption(runner, [{"image": blob, "custom_id": "n" * 513}])
    assert codes(results) == ["option_invalid"]
    assert results[0]["custom_id"] == "n" * 512


@pytest.mark.parametrize("items", [None, [], {}, "x", [{}] * 1025])
def test_a_message_without_a_list_of_items_gets_one_error(running: Start, items: Any) -> None:
    with running() as runner:
        assert codes(caption(runner, items)) == ["option_invalid"]


def test_wrong_options_fail_every_item_by_name(running: Start, blob: str) -> None:
    with running() as runner:
        results = caption(runner, [{"image": blob, "custom_id": "a"}] * 2, {"beams": 5})
    assert codes(results) == ["option_invalid"] * 2
    assert "beams: no such name" in results[0]["error"]["message"]
    assert results[0]["custom_id"] == "a"


@contextmanager
def kept(runner: ChunkRunner, ledger: Ledger) -> Iterator[None]:
    """Signs of life and cancellations, as in a consumer."""
    upkeep = Maintenance(ledger, runner, sweep_s=0)
    upkeep.start()
    yield
    upkeep.stop()


def test_a_second_delivery_joins_the_first(
    running: Start, connection: redis.Redis, blob: str
) -> None:
    ledger = Ledger(connection)
    with running("--hold") as runner, kept(runner, ledger):
        first = threading.Thread(target=lambda: both.append(caption(runner, [{"image": blob}])))
        both: list[Any] = []
        first.start()
        while not connection.zscore(KEYS.running, "t"):
            pass
        second = threading.Thread(target=lambda: both.append(caption(runner, [{"image": blob}])))
        second.start()
        ledger.cancel("t")
        first.join(20)
        second.join(20)
    assert [codes(results) for results in both] == [["cancelled"], ["cancelled"]]
    assert both[0] is both[1]


def test_a_second_delivery_of_a_job_of_the_ledger_is_left_to_the_first(
    running: Start, connection: redis.Redis, client: Client
) -> None:
    job = client.caption(picture())
    ledger = Ledger(connection)
    with running("--hold") as runner, kept(runner, ledger), ThreadPoolExecutor(1) as pool:
        first = pool.submit(from_ledger, runner, job.id)
        while not connection.zscore(KEYS.running, job.id):
            pass
        # In the same consumer, and in another one
        assert from_ledger(runner, job.id) is None
        with running("--hold") as other:
            assert from_ledger(other, job.id) is None
        job.cancel()
        assert codes(first.result(20)) == ["cancelled"]


def from_ledger(runner: ChunkRunner, task_id: str) -> Any:
    redis_ = runner._ledger._redis
    (row,) = Ledger(redis_).records([task_id])
    entry = row.generation if row is not None else "gone"
    return runner.run(task_id, Task.CAPTION, None, None, entry=entry, interactive=True)


def test_what_is_asked_again_keeps_the_results_that_it_has(
    running: Start, finish: Callable[..., None], client: Client, connection: redis.Redis
) -> None:
    batch = client.submit_batch([picture(), {"image": "ftp://x", "custom_id": "b"}, picture()])
    failed = contract.failure("image_blocked", "ftp")
    finish(f"{batch.id}:0", [{"text": "kept"}, {"custom_id": "b", **failed}, failed])
    assert batch.progress().failed == 2
    assert batch.retry_failed() == 2
    assert (batch.progress().done, batch.progress().failed) == (0, 0)
    with running() as runner:
        results = from_ledger(runner, f"{batch.id}:0")
    assert (results[0], results[1]["custom_id"]) == ({"text": "kept"}, "b")
    assert codes(results) == ["ok", "image_blocked", "ok"]


def test_a_job_that_kills_whoever_begins_it_is_given_up(
    running: Start, client: Client, connection: redis.Redis
) -> None:
    job = client.caption(picture())
    connection.hset(KEYS.attempts, job.id, contract.MAX_ATTEMPTS)
    with running() as runner:
        assert codes(from_ledger(runner, job.id)) == ["poisoned"]


class Slow(Ledger):
    """Beginning takes a while."""

    def __init__(self, connection: redis.Redis) -> None:
        super().__init__(connection)
        self.claimed, self.resume = threading.Event(), threading.Event()

    def claim(self, task_id: str, generation: str = "") -> Claim:
        self.claimed.set()
        assert self.resume.wait(20)
        return super().claim(task_id, generation)


def test_a_chunk_that_is_not_begun_yet_gives_no_sign_of_life(
    client: Client, connection: redis.Redis
) -> None:
    """The sign would claim it, and its beginning then find it taken."""
    job = client.caption("https://images.example.com/1.jpg")
    ledger = Slow(connection)
    runner = ChunkRunner(ledger, NullPipeline())
    with ThreadPoolExecutor(1) as pool, kept(runner, ledger):
        results = pool.submit(from_ledger, runner, job.id)
        assert ledger.claimed.wait(20)
        assert runner.running == []
        ledger.heartbeat(runner.running)
        ledger.resume.set()
        assert results.result(20) == [{"text": ""}]


DEADLY = """
import os, signal, sys, redis
from producer.contract import Task
from producer.ledger import Ledger
from worker.consumer.chunks import ChunkRunner

class Deadly:
    def answer(self, task, items, terms, row_ids):
        if any(item["custom_id"] in ("3", "7") for item in items):
            os.kill(os.getpid(), signal.SIGKILL)
        return [{"text": item["custom_id"]} for item in items]

ledger = Ledger(redis.Redis.from_url(sys.argv[1]), lease_s=0)
results = ChunkRunner(ledger, Deadly()).run(sys.argv[2], Task.CAPTION, None, None, interactive=True)
print(*(one.get("text") or one["error"]["code"] for one in results))
"""


def test_an_item_that_kills_consumers_is_found_and_its_neighbours_are_answered(
    client: Client, redis_url: str
) -> None:
    items = [{"image": "https://x/y.png", "custom_id": str(n)} for n in range(9)]
    batch = client.submit_batch(items)
    for _ in range(contract.MAX_ATTEMPTS):
        command = [sys.executable, "-c", DEADLY, redis_url, f"{batch.id}:0"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert ended.stdout.split() == ["0", "1", "2", "poisoned", "4", "5", "6", "poisoned", "8"]


def test_a_chunk_that_has_a_result_is_not_run_again(
    running: Start, finish: Callable[..., None], blob: str, connection: redis.Redis
) -> None:
    finish("t", [{"text": "stored before"}])
    with running() as runner:
        assert caption(runner, [{"image": blob}]) == [{"text": "stored before"}]
    assert not connection.exists(KEYS.running)


@pytest.mark.parametrize("cancelled", ["batch", "batch:3"])
def test_a_chunk_cancelled_before_it_began_never_runs(
    running: Start, connection: redis.Redis, blob: str, cancelled: str
) -> None:
    Ledger(connection).cancel(cancelled)
    with running() as runner:
        results = caption(runner, [{"image": blob}, {"image": blob}], task_id="batch:3")
    assert codes(results) == ["cancelled"] * 2


def run(runner: ChunkRunner, task: Task, item: dict[str, Any], task_id: str, **how: Any) -> Any:
    (result,) = runner.run(task_id, task, [item], how, interactive=True)
    return result


def test_each_task_gives_what_it_promises(running: Start, blob: str) -> None:
    history = [{"question": "what?", "answer": "a circle"}]
    chat = {"image": blob, "question": "where?", "history": history}
    with running() as runner:
        said = run(runner, Task.CHAT, chat, "chat")["text"]
        match = run(runner, Task.MATCH, {"image": blob, "texts": ["a", "bbb", "bb"]}, "match")
        image = run(runner, Task.EMBED, {"image": blob}, "image")
        text = run(runner, Task.EMBED, {"text": "a circle"}, "text")
    assert said.startswith("what? a circle where? by")
    assert match["text"] == "bbb"
    assert [one["text"] for one in match["matches"]] == ["a", "bbb", "bb"]
    assert match["matches"][1] == {"text": "bbb", "probability": 0.3, "cosine": -0.3}
    assert (image, text) == ({"embedding": [0.6, 0.8]}, {"embedding": [1.0, 0.0]})


def test_tasks_of_two_models_share_a_chunk(running: Start, blob: str) -> None:
    items = [{"image": blob}, {"image": blob, "task": "embed"}, {"text": "a", "task": "embed"}]
    with running() as runner:
        results = caption(runner, items)
    assert results[0]["text"].startswith("by") or " by" in results[0]["text"]
    assert [one.get("embedding") for one in results] == [None, [0.6, 0.8], [1.0, 0.0]]


def test_a_task_that_no_model_here_does_is_refused_before_its_image_is_fetched(
    running: Start,
) -> None:
    with running("--writes") as runner:
        item = {"image": "blob:" + "0" * 64, "texts": ["a"]}
        error = run(runner, Task.MATCH, item, "match")["error"]
    assert error["code"] == "unsupported_task"
    assert "offer caption, chat, vqa, not match" in error["message"]


def test_who_asks_the_same_again_is_given_the_same_answer(running: Start, blob: str) -> None:
    item = {"image": blob, "prompt": "a"}
    with running() as runner:
        first = run(runner, Task.CAPTION, item, "1")
        named = run(runner, Task.CAPTION, {**item, "custom_id": "x"}, "2")
    # When another engine, with another process id, would answer now
    with running() as runner:
        assert run(runner, Task.CAPTION, item, "3") == first
        assert run(runner, Task.CAPTION, item, "4", temperature=1.0, seed=1) != first
        assert run(runner, Task.CAPTION, {**item, "prompt": "b"}, "5") != first
    assert named == {"custom_id": "x", **first}


@pytest.mark.parametrize("options", [{"temperature": 1.0}, {"deadline": 4e9}])
def test_only_answers_that_would_be_the_same_are_kept(
    running: Start, connection: redis.Redis, blob: str, options: dict[str, Any]
) -> None:
    with running() as runner:
        run(runner, Task.CAPTION, {"image": blob}, "1", **options)
        run(runner, Task.VQA, {"image": blob, "question": " "}, "2")
    kept = connection.keys(KEYS.answer("*"))
    # A deadline changes nothing about the answer.
    assert len(kept) == ("deadline" in options)
    assert all(connection.ttl(key) > 0 for key in kept)


def test_without_room_for_answers_items_are_answered_all_the_same(
    running: Start, connection: redis.Redis, blob: str
) -> None:
    with running() as runner:
        connection.config_set("maxmemory", 1)
        try:
            assert "error" not in run(runner, Task.CAPTION, {"image": blob}, "1")
        finally:
            connection.config_set("maxmemory", 0)
