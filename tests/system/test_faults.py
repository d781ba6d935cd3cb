"""What dies in the middle of a batch harms nothing: real processes, real signals."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
import redis
from PIL import Image

from config.settings import DEMO_MODEL
from demo.scenes import draw, random_scene
from demo.stack import ROOT, free_port, running_redis, running_worker
from producer import Batch, Client, Queue
from producer.ledger.keys import Keys
from tests.system import reference
from worker.engine.client import EngineClient
from worker.engine.protocol import socket_path

#: Nothing is known from before, so that all work is done again.
FORGETFUL = {"BLIPLINE_FEATURE_CACHE_MB": "0", "BLIPLINE_ANSWER_CACHE_S": "0"}
#: Few rows at once, so that a batch takes long enough to be hit in its middle.
SLOW = {**FORGETFUL, "BLIPLINE_MAX_ROWS": "2"}
ITEMS = 160
KEYS = Keys()


@pytest.fixture(scope="module")
def pictures() -> dict[bytes, str]:
    """Encoded scenes and the captions that plain transformers gives them."""
    rng, captions = Random(5), {}
    # All of them different: what is asked twice at once is computed once.
    for _ in range(ITEMS):
        picture = draw(random_scene(rng), 96, 96)
        file = io.BytesIO()
        picture.save(file, "PNG")
        captions[file.getvalue()] = reference.caption(Image.open(file))
    return captions


@pytest.fixture
def own_redis() -> Iterator[str]:
    """A Redis that nothing else of the tests uses."""
    with running_redis() as url:
        yield url


def submit(client: Client, pictures: dict[bytes, str]) -> tuple[Batch, list[str]]:
    """A batch, and the texts that it must give."""
    return client.submit_batch(list(pictures), chunk_items=8), list(pictures.values())


def texts(batch: Batch) -> list[str | None]:
    return [result.text for result in batch.results(timeout=60)]


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def engine_pid(run_dir: Path) -> int:
    line = EngineClient(socket_path(run_dir), wait_s=30)
    line.start()
    pid = line.info(timeout_s=30).pid
    line.close()
    return pid


def assert_nothing_is_left(connection: redis.Redis) -> None:
    assert not connection.exists(KEYS.open, KEYS.running, KEYS.depth, "unacked", "bulk")


def test_an_engine_killed_in_a_batch_costs_neither_an_item_nor_an_answer(
    own_redis: str, pictures: dict[bytes, str]
) -> None:
    with running_worker(own_redis, SLOW) as worker, Client(own_redis) as client:
        batch, expected = submit(client, pictures)
        wait_for(lambda: 0 < batch.progress().done < ITEMS)
        victim = engine_pid(worker.run_dir)
        os.kill(victim, signal.SIGKILL)
        assert batch.progress().done < ITEMS, "the batch was over too soon to prove anything"
        assert texts(batch) == expected
        assert engine_pid(worker.run_dir) != victim
    with redis.Redis.from_url(own_redis) as connection:
        assert_nothing_is_left(connection)


def test_an_engine_that_is_stopped_for_too_long_is_replaced(
    own_redis: str, pictures: dict[bytes, str]
) -> None:
    settings = {**SLOW, "BLIPLINE_STEP_TIMEOUT_S": "0.5"}
    with running_worker(own_redis, settings) as worker, Client(own_redis) as client:
        batch, expected = submit(client, pictures)
        wait_for(lambda: 0 < batch.progress().done < ITEMS)
        victim = engine_pid(worker.run_dir)
        os.kill(victim, signal.SIGSTOP)  # no watchdog of its own can help now
        assert texts(batch) == expected
        assert engine_pid(worker.run_dir) != victim


def test_a_worker_told_to_stop_finishes_what_it_began_and_leaves_the_rest(
    own_redis: str, pictures: dict[bytes, str]
) -> None:
    with Client(own_redis) as client, redis.Redis.from_url(own_redis) as connection:
        with running_worker(own_redis, SLOW) as worker:
            batch, expected = submit(client, pictures)
            wait_for(lambda: 0 < batch.progress().done < ITEMS)
            worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait(60) == 0
        # Begun means finished; the rest is in the queue, as if nobody had touched it.
        left = ITEMS - batch.progress().done
        assert left > 0, "the batch was over too soon to prove anything"
        assert connection.zcard(KEYS.running) == 0
        assert connection.zcard(KEYS.open) == left / 8
        waiting = connection.llen(KEYS.submitter_queue(Queue.BULK, batch.id))
        assert connection.llen("bulk") + waiting == left / 8
        assert not connection.exists("unacked")
        with running_worker(own_redis, FORGETFUL):
            assert texts(batch) == expected
        assert_nothing_is_left(connection)


def test_a_supervisor_that_is_killed_takes_its_children_along(
    own_redis: str, pictures: dict[bytes, str]
) -> None:
    with Client(own_redis) as client:
        with running_worker(own_redis, SLOW) as worker:
            batch, expected = submit(client, pictures)
            wait_for(lambda: batch.progress().done > 0)
            children = descendants(worker.process.pid)
            assert len(children) == 3
            worker.process.kill()
            wait_for(lambda: not any(alive(pid) for pid in children))
        with running_worker(own_redis, FORGETFUL):
            assert texts(batch) == expected


def test_a_consumer_that_is_killed_is_started_again(own_redis: str) -> None:
    with (
        running_worker(own_redis, {"BLIPLINE_LEASE_S": "2", "BLIPLINE_SWEEP_S": "1"}) as worker,
        Client(own_redis) as client,
    ):
        engine = engine_pid(worker.run_dir)
        consumers = [pid for pid in descendants(worker.process.pid) if pid != engine]
        for pid in consumers:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(alive(pid) for pid in consumers))
        # A dead consumer's connection may outlive it by a moment, and Redis may give it this job:
        # the sweeper finds it.
        picture = draw(random_scene(Random(6)), 64, 64)
        assert client.caption(picture).result(timeout=60) == reference.caption(picture)


def test_a_second_worker_in_the_same_place_is_refused_and_harms_nobody(own_redis: str) -> None:
    with running_worker(own_redis) as worker, Client(own_redis) as client:
        settings = {"BLIPLINE_REDIS_URL": own_redis, "BLIPLINE_RUN_DIR": str(worker.run_dir)}
        second = subprocess.run(
            [sys.executable, "-m", "worker"],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert second.returncode == 3
        assert "BLIPLINE_RUN_DIR" in second.stderr
        assert (worker.run_dir / "ready").exists()
        picture = draw(random_scene(Random(6)), 64, 64)
        assert client.caption(picture).result(timeout=60) == reference.caption(picture)


def test_a_restart_of_redis_costs_neither_an_item_nor_an_answer(
    pictures: dict[bytes, str], tmp_path: Path
) -> None:
    durable = ("--appendonly", "yes", "--appendfsync", "always", "--dir", str(tmp_path))
    port = free_port()
    with ExitStack() as stack:
        with running_redis(port, *durable) as url:
            stack.enter_context(running_worker(url, SLOW))
            client = stack.enter_context(Client(url))
            batch, expected = submit(client, pictures)
            wait_for(lambda: 0 < batch.progress().done < ITEMS)
        stack.enter_context(running_redis(port, *durable))
        assert batch.progress().done < ITEMS, "the batch was over too soon to prove anything"
        assert texts(batch) == expected


def test_a_consumer_started_by_hand_brings_its_own_engine(own_redis: str) -> None:
    command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker"]
    command += ["-P", "threads", "-c", "2", "-Q", "interactive,bulk"]
    with tempfile.TemporaryDirectory(prefix="blipline-test-") as run_dir:
        environment = {"BLIPLINE_REDIS_URL": own_redis, "BLIPLINE_RUN_DIR": run_dir}
        consumer = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.DEVNULL
        )
        try:
            with Client(own_redis) as client:
                picture = draw(random_scene(Random(6)), 64, 64)
                assert client.caption(picture).result(timeout=90) == reference.caption(picture)
        finally:
            engine = engine_pid(Path(run_dir))
            consumer.terminate()
            assert consumer.wait(30) == 0
            # It would wait half a minute for another consumer to come.
            os.kill(engine, signal.SIGTERM)
            wait_for(lambda: not alive(engine))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"BLIPLINE_MODEL": "/no/such/directory"}, "/no/such/directory"),
        ({"BLIPLINE_MATCH_MODEL": str(DEMO_MODEL)}, "BLIPLINE_MATCH_MODEL is for a retrieval"),
        ({"BLIPLINE_MAX_ROWS": "many"}, "BLIPLINE_MAX_ROWS"),
        ({"BLIPLINE_REDIS_URL": "localhost"}, "redis://"),
    ],
)
def test_a_worker_that_cannot_serve_says_why_in_a_sentence(
    settings: dict[str, str], message: str
) -> None:
    command = [sys.executable, "-m", "worker"]
    done = subprocess.run(
        command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "ready" not in done.stdout


def descendants(pid: int) -> list[int]:
    """The children of a process."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
