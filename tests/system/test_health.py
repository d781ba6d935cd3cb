"""The health of a real worker while its processes, its queues and its Redis fail."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from celery import Celery

from demo.stack import ROOT, running_redis, running_worker
from producer import Client
from tests.faults.processes import holds, losing_readiness, processes_of, send
from tests.redis_servers import wait_until
from worker import health

SETTINGS = {
    "BLIPLINE_MODEL": "null",
    "BLIPLINE_LEASE_S": "2",
    "BLIPLINE_SWEEP_S": "1",
    "BLIPLINE_STEP_TIMEOUT_S": "0.5",
    "BLIPLINE_GRACE_S": "5",
}
IMAGE = "https://images.example.com/a.png"
PROCESSES = ["supervisor", "engine", "interactive", "bulk"]
#: Seconds for a process to restart on a busy machine.
RESTART_S = 120.0


@dataclass(frozen=True)
class Stage:
    """A worker and its Redis."""

    url: str
    run_dir: Path

    @property
    def ready_file(self) -> Path:
        return self.run_dir / "ready"

    def health(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the output of a health check."""
        with redirect_stdout(io.StringIO()) as output:
            code = health.main([*arguments, "--run-dir", str(self.run_dir)])
        return code, output.getvalue()

    def ready(self) -> bool:
        """Return whether the processes are ready, and the supervisor has seen it."""
        return self.health("--ready")[0] == 0 and self.ready_file.exists()

    def live(self) -> bool:
        return self.health("--live")[0] == 0

    def answers(self, queue: str = "bulk") -> bool:
        """Return whether a batch of a queue is answered."""
        with Client(self.url) as client:
            if queue == "interactive":
                return client.caption(IMAGE).result(timeout=60) is not None
            batch = client.submit_batch([{"image": IMAGE, "custom_id": name} for name in "ab"])
            # The null model answers with the custom_id.
            return [result.text for result in batch.results(timeout=60)] == ["a", "b"]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with ExitStack() as stack:
        url = stack.enter_context(running_redis())
        worker = stack.enter_context(running_worker(url, SETTINGS))
        yield Stage(url, worker.run_dir)


def test_a_worker_is_ready_and_live(stage: Stage) -> None:
    environment = {**os.environ, "BLIPLINE_RUN_DIR": str(stage.run_dir)}
    command = [sys.executable, "-m", "worker", "health"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    output = done.stdout
    assert [line.split()[0] for line in output.splitlines()] == PROCESSES
    assert all("ready  heartbeat" in line for line in output.splitlines())
    assert stage.live()


@pytest.mark.parametrize(
    "queue", ["bulk", pytest.param("interactive", marks=pytest.mark.exhaustive)]
)
def test_a_cancelled_queue_is_not_ready_and_is_consumed_again(stage: Stage, queue: str) -> None:
    # When an operator cancels the queue
    with (
        losing_readiness(stage.ready_file, RESTART_S),
        Celery("operator", broker=stage.url, set_as_current=False) as operator,
    ):
        operator.control.cancel_consumer(queue)
        # Then the worker says so, and is not ready
        wait_until(lambda: f"not consuming {queue}" in stage.health()[1], "the report", 60)
    # And consumes again by itself, also with a further connection
    wait_until(stage.ready, "the return of the queue", 60)
    assert stage.answers(queue)
    with redis.Redis.from_url(stage.url) as server:
        server.client_kill_filter(_type="normal", skipme=True)
    assert stage.answers(queue)
    wait_until(stage.ready, "readiness with new connections", 60)


def test_a_hung_engine_is_not_ready_and_is_replaced(stage: Stage) -> None:
    (engine,) = processes_of(stage.run_dir, "engine")
    with losing_readiness(stage.ready_file, RESTART_S):
        send([engine], signal.SIGSTOP)
    assert stage.live()
    wait_until(stage.ready, "another engine", RESTART_S)
    assert processes_of(stage.run_dir, "engine") != [engine]
    assert stage.answers()


def test_a_killed_consumer_is_replaced_while_the_worker_is_live(stage: Stage) -> None:
    (consumer,) = processes_of(stage.run_dir, "bulk")
    with losing_readiness(stage.ready_file, RESTART_S):
        send([consumer], signal.SIGKILL)
    assert stage.live()
    wait_until(stage.ready, "another consumer", RESTART_S)
    assert stage.answers()


def test_a_worker_without_redis_is_ready_and_live(stage: Stage) -> None:
    with redis.Redis.from_url(stage.url) as server:
        server.shutdown(nosave=True)
    assert not holds(lambda: not (stage.ready() and stage.live()), 5)
