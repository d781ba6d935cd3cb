"""A cluster under faults: a Redis, its proxies and workers, each of which recovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Final

import redis

from demo.stack import ROOT
from tests.faults.processes import end_all, holds, processes_of
from tests.faults.proxy import Proxy, running_proxy
from tests.redis_servers import Sentinels, Server, running_sentinels, wait_until

#: Seconds without a heartbeat after which a running job is requeued.
LEASE_S: Final = 2
#: Seconds after which Redis redelivers an unacknowledged message.
VISIBILITY_TIMEOUT_S: Final = 4 * LEASE_S
#: Few rows and slots, and no caches: work lasts long enough for faults to hit it.
SETTINGS: Final = {
    "BLIPLINE_MAX_ROWS": "4",
    "BLIPLINE_BULK_SLOTS": "2",
    "BLIPLINE_INTERACTIVE_SLOTS": "4",
    "BLIPLINE_ANSWER_CACHE_S": "0",
    "BLIPLINE_FEATURE_CACHE_MB": "0",
    "BLIPLINE_MATCH_MODEL": "none",
    "BLIPLINE_CPU_THREADS": "1",
    "BLIPLINE_LEASE_S": str(LEASE_S),
    "BLIPLINE_VISIBILITY_TIMEOUT_S": str(VISIBILITY_TIMEOUT_S),
    "BLIPLINE_SWEEP_S": "1",
    "BLIPLINE_GRACE_S": "20",
    # The tests' own image host is on this machine.
    "BLIPLINE_FETCH_ALLOW": "127.0.0.0/8,::1",
}
#: Seconds for a worker to start or stop on a busy machine.
WORKER_S: Final = 120.0


class Worker:
    """A worker's process tree, which restarts in the same run directory."""

    def __init__(
        self,
        run_dir: Path,
        redis_url: str,
        proxy: Proxy | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.run_dir = run_dir
        #: Its proxy to Redis, if it has one.
        self.proxy = proxy
        self.log = run_dir.with_suffix(".log")
        self._environment = {
            **os.environ,
            **SETTINGS,
            "BLIPLINE_REDIS_URL": redis_url,
            "BLIPLINE_RUN_DIR": str(run_dir),
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ready(self) -> bool:
        """True if it takes jobs."""
        return self.alive and (self.run_dir / "ready").exists()

    @property
    def alive(self) -> bool:
        """True if its supervisor runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code of its supervisor; None if it runs or was never started."""
        return None if self._process is None else self._process.poll()

    def pids(self, role: str) -> list[int]:
        """Return its processes of a role: 'supervisor', 'engine', 'interactive' or 'bulk'."""
        return processes_of(self.run_dir, role)

    def start(self) -> None:
        """Start it, without a wait for readiness."""
        self.run_dir.mkdir(mode=0o700, exist_ok=True)
        # The file of a killed supervisor.
        (self.run_dir / "ready").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def comes_up(self) -> bool:
        """Wait until it takes jobs; return whether it does in time."""
        return holds(lambda: self.ready, WORKER_S)

    def wait_ready(self) -> None:
        """Wait until it takes jobs; raise RuntimeError if it does not in time."""
        if not self.comes_up():
            raise RuntimeError(f"the worker is not ready: see {self.log}")

    def signal(self, number: int) -> subprocess.Popen[bytes]:
        """Signal its supervisor and return its process, which a restart replaces."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process

    def end(self) -> None:
        """End it and every process that it has started."""
        end_all(self.run_dir, 30)
        if self._process is not None:
            self.signal(signal.SIGKILL).wait()


class Cluster:
    """All processes that faults hit, and the means to hit them."""

    def __init__(
        self,
        directory: Path,
        producer_url: str,
        workers: list[Worker],
        connect: Callable[[], redis.Redis],
    ) -> None:
        self.directory = directory
        self.producer_url = producer_url
        self.workers = workers
        #: Opens a direct connection to the Redis that holds the data.
        self.connect = connect
        #: The single Redis, unless it is replicated.
        self.redis: Server | None = None
        self.proxies: list[Proxy] = []
        #: The servers of a replicated Redis.
        self.sentinels: Sentinels | None = None
        #: Trees that ended with an error of their own, not by a signal or on request.
        self.given_up: list[str] = []
        self._reviving = Lock()

    def configure(self, name: str, value: str) -> None:
        """Run CONFIG SET as soon as Redis answers."""

        def done() -> bool:
            # While it loads its file, its errors differ between versions.
            with suppress(redis.RedisError), self.connect() as client:
                return bool(client.config_set(name, value))
            return False

        wait_until(done, "a Redis that answers")

    def revive(self) -> None:
        """Start the trees that have ended, for any reason."""
        with self._reviving:
            for worker in self.workers:
                if not worker.alive:
                    if (worker.exit_code or 0) > 0:
                        self.given_up.append(f"{worker.log.name}: {worker.exit_code}")
                    worker.start()


@contextmanager
def running_cluster(
    directory: Path, workers: int = 2, settings: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Run a Redis, and workers and producers that reach it through proxies."""
    with ExitStack() as stack:
        # A killed Redis must lose nothing, since Blipline cannot recover that.
        server = Server(directory, "appendfsync always")
        stack.callback(server.kill)
        server.start()
        proxies = [stack.enter_context(running_proxy(server.port)) for _ in range(workers + 1)]
        trees = [
            Worker(directory / f"worker-{number}", proxy.url, proxy, settings)
            for number, proxy in enumerate(proxies[1:])
        ]
        cluster = Cluster(directory, proxies[0].url, trees, server.connect)
        cluster.redis, cluster.proxies = server, proxies
        start_workers(stack, trees)
        yield cluster


@contextmanager
def running_replicated_cluster(
    directory: Path, workers: int = 2, settings: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Run a Redis with a replica and three Sentinels, and workers that use the Sentinels."""
    with ExitStack() as stack:
        # A master without its replica must take no writes: they would be lost with it.
        sentinels = stack.enter_context(running_sentinels(directory, "min-replicas-to-write 1"))
        trees = [
            Worker(directory / f"worker-{number}", sentinels.url, settings=settings)
            for number in range(workers)
        ]

        def connect() -> redis.Redis:
            master = sentinels.master()
            assert master is not None
            return master.connect()

        cluster = Cluster(directory, sentinels.url, trees, connect)
        cluster.sentinels = sentinels
        start_workers(stack, trees)
        yield cluster


def start_workers(stack: ExitStack, workers: list[Worker]) -> None:
    """Start the workers concurrently and wait for all; they end with the stack."""
    for worker in workers:
        stack.callback(worker.end)
        worker.start()
    for worker in workers:
        worker.wait_ready()
