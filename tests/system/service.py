"""A worker's process tree and its Redis, both of which a test may end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis

from demo.stack import ROOT, START_S
from producer import Batch, Client
from producer.ledger.keys import Keys
from tests.redis_servers import Server, wait_until
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
KEYS = Keys()


class Service:
    """A worker that restarts its dead processes, and its Redis; a test may end either of them."""

    def __init__(self, server: Server, run_dir: Path, settings: Mapping[str, str]) -> None:
        self.server = server
        self.url = f"redis://127.0.0.1:{server.port}/0"
        self.run_dir = run_dir
        self.log = run_dir / "log"
        self._settings = settings
        self.process: subprocess.Popen[bytes] | None = None

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start the worker unless it runs; return its supervisor once it takes jobs."""
        ready = self.run_dir / "ready"
        if self.process is None or self.process.poll() is not None:
            # The file of a killed supervisor.
            ready.unlink(missing_ok=True)
            own = {"BLIPLINE_REDIS_URL": self.url, "BLIPLINE_RUN_DIR": str(self.run_dir)}
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "worker"],
                    cwd=ROOT,
                    env={**os.environ, **SLOW, **self._settings, **own},
                    stdout=log,
                    stderr=log,
                )
        # Also one that runs: the test before may have ended its processes.
        wait_until(ready.exists, "readiness", START_S)
        return self.process

    def end(self) -> None:
        """End the worker."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)


@contextmanager
def running_service(
    directory: Path, settings: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """Run a durable Redis for a worker that a test starts."""
    server = Server(directory, "appendfsync always")
    server.start()
    # A short path: a Unix socket's may have some hundred bytes only.
    with tempfile.TemporaryDirectory(prefix="blipline-") as run_dir:
        service = Service(server, Path(run_dir), settings or {})
        try:
            yield service
        finally:
            service.end()
            server.kill()


def submit(client: Client, pictures: dict[bytes, str]) -> tuple[Batch, list[str]]:
    """Submit a batch; return it with its expected texts."""
    return client.submit_batch(list(pictures), chunk_items=8), list(pictures.values())


def texts(batch: Batch) -> list[str | None]:
    return [result.text for result in batch.results(timeout=60)]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
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
