"""Deaths of a worker's processes, and of Redis, in the middle of a batch lose nothing: real
processes, real signals, and an engine that echoes.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import redis

from demo.scenes import draw, random_scene
from demo.stack import ROOT, running_redis
from producer import Client, Queue
from tests.echo_worker import ENVIRONMENT, SIDE, answer_to
from tests.system.service import (
    KEYS,
    Service,
    alive,
    assert_nothing_is_left,
    descendants,
    engine_pid,
    running_service,
    submit,
    texts,
    wait_for,
)

ITEMS = 96
PICTURE = draw(random_scene(Random(6)), SIDE, SIDE)


@pytest.fixture(scope="module")
def pictures() -> dict[bytes, str]:
    """Encoded scenes and their echoes."""
    rng, answers = Random(5), {}
    for _ in range(ITEMS):
        picture, file = draw(random_scene(rng), SIDE, SIDE), io.BytesIO()
        picture.save(file, "PNG")
        answers[file.getvalue()] = answer_to(picture)
    assert len(answers) == ITEMS
    return answers


@pytest.fixture
def own_redis() -> Iterator[str]:
    """A Redis for one test alone."""
    with running_redis() as url:
        yield url


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A worker that starts once for the tests after which it still runs, and its Redis."""
    with running_service(tmp_path_factory.mktemp("redis"), ENVIRONMENT) as service:
        yield service


@pytest.fixture
def service(running: Service) -> Service:
    """That service, with a worker that takes jobs."""
    running.start_worker()
    return running


def test_a_worker_that_stops_finishes_running_chunks_and_leaves_the_rest(
    service: Service, pictures: dict[bytes, str]
) -> None:
    with Client(service.url) as client, redis.Redis.from_url(service.url) as connection:
        supervisor = service.start_worker()
        batch, expected = submit(client, pictures)
        wait_for(lambda: 0 < batch.progress().done < ITEMS)
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(60) == 0
        # Started chunks are finished; the rest is in the queue, untouched.
        remaining = ITEMS - batch.progress().done
        assert remaining > 0, "the batch was over too soon to prove anything"
        assert connection.zcard(KEYS.running) == 0
        assert connection.zcard(KEYS.open) == remaining / 8
        waiting = connection.llen(KEYS.submitter_queue(Queue.BULK, batch.id))
        assert connection.llen("bulk") + waiting == remaining / 8
        assert not connection.exists("unacked")
        service.start_worker()
        assert texts(batch) == expected
        wait_for(lambda: not connection.exists("unacked"))
        assert_nothing_is_left(connection)


def test_the_children_of_a_killed_supervisor_end(
    service: Service, pictures: dict[bytes, str]
) -> None:
    with Client(service.url) as client:
        supervisor = service.start_worker()
        batch, expected = submit(client, pictures)
        wait_for(lambda: batch.progress().done > 0)
        children = descendants(supervisor.pid)
        assert len(children) == 3
        supervisor.kill()
        supervisor.wait()
        wait_for(lambda: not any(alive(pid) for pid in children))
        service.start_worker()
        assert texts(batch) == expected


def test_a_killed_consumer_is_restarted(service: Service) -> None:
    with Client(service.url) as client:
        engine = engine_pid(service.run_dir)
        consumers = [pid for pid in descendants(service.start_worker().pid) if pid != engine]
        assert len(consumers) == 2
        for pid in consumers:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(alive(pid) for pid in consumers))
        # A dead consumer's connection may outlive it briefly, and Redis may deliver this job to it:
        # the sweep requeues it.
        assert client.caption(PICTURE).result(timeout=60) == answer_to(PICTURE)


def test_a_second_worker_in_the_same_directory_ends_without_harm(service: Service) -> None:
    settings = {"BLIPLINE_REDIS_URL": service.url, "BLIPLINE_RUN_DIR": str(service.run_dir)}
    second = subprocess.run(
        [sys.executable, "-m", "worker"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert second.returncode == 3
    assert "BLIPLINE_RUN_DIR" in second.stderr
    assert (service.run_dir / "ready").exists()
    with Client(service.url) as client:
        assert client.caption(PICTURE).result(timeout=60) == answer_to(PICTURE)


def test_an_engine_that_is_stopped_for_too_long_is_replaced(
    service: Service, pictures: dict[bytes, str]
) -> None:
    with Client(service.url) as client:
        victim = engine_pid(service.run_dir)
        batch, expected = submit(client, pictures)
        wait_for(lambda: 0 < batch.progress().done < ITEMS)
        os.kill(victim, signal.SIGSTOP)  # its own watchdog is stopped too
        assert texts(batch) == expected
        assert engine_pid(service.run_dir) != victim


def test_a_restart_of_redis_loses_no_item_and_changes_no_result(
    service: Service, pictures: dict[bytes, str]
) -> None:
    with Client(service.url) as client:
        engine = engine_pid(service.run_dir)
        batch, expected = submit(client, pictures)
        wait_for(lambda: 0 < batch.progress().done < ITEMS)
        # On a busy machine the batch would end before Redis has restarted.
        os.kill(engine, signal.SIGSTOP)
        service.server.kill()
        service.server.start()
        assert batch.progress().done < ITEMS, "the batch was over too soon to prove anything"
        os.kill(engine, signal.SIGCONT)
        assert texts(batch) == expected


def test_a_consumer_without_a_supervisor_starts_its_own_engine(own_redis: str) -> None:
    command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker"]
    # Without -P, the pool is the configured one.
    command += ["-c", "2", "-Q", "interactive,bulk"]
    with tempfile.TemporaryDirectory(prefix="blipline-test-") as run_dir:
        environment = {
            **ENVIRONMENT,
            "BLIPLINE_REDIS_URL": own_redis,
            "BLIPLINE_RUN_DIR": run_dir,
        }
        consumer = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.DEVNULL
        )
        try:
            with Client(own_redis) as client:
                assert client.caption(PICTURE).result(timeout=90) == answer_to(PICTURE)
        finally:
            engine = engine_pid(Path(run_dir))
            consumer.terminate()
            assert consumer.wait(30) == 0
            # It would wait half a minute for another consumer.
            os.kill(engine, signal.SIGTERM)
            wait_for(lambda: not alive(engine))
