"""Deaths in the middle of a batch lose nothing: real processes, real signals."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import redis
from PIL import Image

from config.settings import DEMO_MODEL
from demo.scenes import draw, random_scene
from demo.stack import ROOT, running_redis
from producer import Batch, Client, Queue
from producer.ledger.keys import Keys
from tests.redis_servers import Server
from tests.system import reference
from worker.engine.client import EngineClient
from worker.engine.protocol import socket_path

#: No caches, so that all work is done again; few rows and chunks at once, so that a batch lasts
#: long enough to be hit in its middle; and short times until a process or a message counts as lost.
SLOW = {
    "BLIPLINE_MATCH_MODEL": "none",
    "BLIPLINE_BULK_SLOTS": "4",
    "BLIPLINE_FEATURE_CACHE_MB": "0",
    "BLIPLINE_ANSWER_CACHE_S": "0",
    "BLIPLINE_MAX_ROWS": "2",
    "BLIPLINE_STEP_TIMEOUT_S": "4",
    "BLIPLINE_LEASE_S": "5",
    "BLIPLINE_SWEEP_S": "1",
}
ITEMS = 96
KEYS = Keys()


@pytest.fixture(scope="module")
def pictures() -> dict[bytes, str]:
    """Encoded scenes and their captions by plain transformers."""
    rng = Random(5)
    # All different: the engine computes simultaneous equal requests once.
    files = [io.BytesIO() for _ in range(ITEMS)]
    for file in files:
        draw(random_scene(rng), 96, 96).save(file, "PNG")
    captions = reference.captions([Image.open(file) for file in files])
    return dict(zip((file.getvalue() for file in files), captions, strict=True))


@pytest.fixture
def own_redis() -> Iterator[str]:
    """A Redis for one test alone."""
    with running_redis() as url:
        yield url


class Service:
    """A worker that restarts its dead processes, and its Redis; a test may end either of them."""

    def __init__(self, server: Server, run_dir: Path) -> None:
        self.server = server
        self.url = f"redis://127.0.0.1:{server.port}/0"
        self.run_dir = run_dir
        self.log = run_dir / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start the worker unless it runs; return its supervisor once it takes jobs."""
        if self.process is None or self.process.poll() is not None:
            ready = self.run_dir / "ready"
            # The file of a killed supervisor.
            ready.unlink(missing_ok=True)
            own = {"BLIPLINE_REDIS_URL": self.url, "BLIPLINE_RUN_DIR": str(self.run_dir)}
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "worker"],
                    cwd=ROOT,
                    env={**os.environ, **SLOW, **own},
                    stdout=log,
                    stderr=log,
                )
            wait_for(ready.exists)
        return self.process

    def end(self) -> None:
        """End the worker."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)


@pytest.fixture(scope="module")
def running_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A worker that starts once for the tests after which it still runs, and a durable Redis."""
    server = Server(tmp_path_factory.mktemp("redis"), "appendfsync always")
    server.start()
    # A short path: a Unix socket's may have some hundred bytes only.
    with tempfile.TemporaryDirectory(prefix="blipline-") as run_dir:
        service = Service(server, Path(run_dir))
        try:
            yield service
        finally:
            service.end()
            server.kill()


@pytest.fixture
def service(running_service: Service) -> Service:
    """That service, with a worker that takes jobs."""
    running_service.start_worker()
    return running_service


def submit(client: Client, pictures: dict[bytes, str]) -> tuple[Batch, list[str]]:
    """Submit a batch; return it with its expected texts."""
    return client.submit_batch(list(pictures), chunk_items=8), list(pictures.values())


def texts(batch: Batch) -> list[str | None]:
    return [result.text for result in batch.results(timeout=60)]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.01)


def engine_pid(run_dir: Path) -> int:
    engine = EngineClient(socket_path(run_dir), wait_s=30)
    engine.start()
    pid = engine.info(timeout_s=30).pid
    engine.close()
    return pid


def assert_nothing_is_left(connection: redis.Redis) -> None:
    assert not connection.exists(KEYS.open, KEYS.running, KEYS.depth, "unacked", "bulk")


def test_killing_the_engine_in_a_batch_loses_no_item_and_changes_no_result(
    service: Service, pictures: dict[bytes, str]
) -> None:
    with Client(service.url) as client, redis.Redis.from_url(service.url) as connection:
        victim = engine_pid(service.run_dir)
        batch, expected = submit(client, pictures)
        wait_for(lambda: 0 < batch.progress().done < ITEMS)
        os.kill(victim, signal.SIGKILL)
        assert batch.progress().done < ITEMS, "the batch was over too soon to prove anything"
        assert texts(batch) == expected
        assert engine_pid(service.run_dir) != victim
        wait_for(lambda: not connection.exists("unacked"))
        assert_nothing_is_left(connection)


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
        picture = draw(random_scene(Random(6)), 64, 64)
        assert client.caption(picture).result(timeout=60) == reference.caption(picture)


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
        picture = draw(random_scene(Random(6)), 64, 64)
        assert client.caption(picture).result(timeout=60) == reference.caption(picture)


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
            # It would wait half a minute for another consumer.
            os.kill(engine, signal.SIGTERM)
            wait_for(lambda: not alive(engine))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"BLIPLINE_MODEL": "/no/such/directory"}, "/no/such/directory"),
        ({"BLIPLINE_MATCH_MODEL": str(DEMO_MODEL)}, "BLIPLINE_MATCH_MODEL a retrieval"),
        ({"BLIPLINE_MAX_ROWS": "many"}, "BLIPLINE_MAX_ROWS"),
        ({"BLIPLINE_REDIS_URL": "localhost"}, "redis://"),
    ],
)
def test_a_worker_that_cannot_start_prints_the_reason_in_one_sentence(
    settings: dict[str, str], message: str
) -> None:
    command = [sys.executable, "-m", "worker"]
    done = subprocess.run(
        command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "ready" not in done.stdout


def descendants(pid: int) -> list[int]:
    """Return the children of a process."""
    listing = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True
    )
    return [int(word) for word in listing.stdout.split()]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
