"""A Redis, its proxies and workers, each of which can be harmed and comes back."""

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

#: Seconds without a sign of life after which a running job is pushed again.
LEASE_S: Final = 2
#: Seconds after which Redis gives an unacknowledged message to somebody else.
VISIBILITY_TIMEOUT_S: Final = 4 * LEASE_S
#: Few rows and slots, and nothing known from before: work lasts long enough to be hit.
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
#: Seconds for a worker to come up or go down on a machine that is busy with other things.
WORKER_S: Final = 120.0


class Worker:
    """A worker's process tree that is started again in the same place when it was ended."""

    def __init__(
        self,
        run_dir: Path,
        redis_url: str,
        proxy: Proxy | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.run_dir = run_dir
        #: Its way to Redis, if that is one that can be harmed.
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
        """Whether it takes jobs."""
        return self.alive and (self.run_dir / "ready").exists()

    @property
    def alive(self) -> bool:
        """Whether its supervisor runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How its supervisor ended; None: it runs, or never did."""
        return None if self._process is None else self._process.poll()

    def pids(self, role: str) -> list[int]:
        """Its processes of this role: 'supervisor', 'engine', 'interactive' or 'bulk'."""
        return processes_of(self.run_dir, role)

    def start(self) -> None:
        """Start it; whether it is ready is another question."""
        self.run_dir.mkdir(mode=0o700, exist_ok=True)
        # What a supervisor that was killed said of itself is no longer true.
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
        """Wait until it takes jobs; whether it came to that."""
        return holds(lambda: self.ready, WORKER_S)

    def wait_ready(self) -> None:
        """Wait until it takes jobs."""
        if not self.comes_up():
            raise RuntimeError(f"the worker is not ready: see {self.log}")

    def signal(self, number: int) -> subprocess.Popen[bytes]:
        """Signal its supervisor, whose process is returned: there may be another one soon."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process

    def end(self) -> None:
        """End it and all that it ever started."""
        end_all(self.run_dir, 30)
        if self._process is not None:
            self.signal(signal.SIGKILL).wait()


class Cluster:
    """Everything that can be harmed, and what is needed to harm it."""

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
        #: A connection of the tests' own to the very Redis that has the data.
        self.connect = connect
        #: Of a single Redis.
        self.redis: Server | None = None
        self.proxies: list[Proxy] = []
        #: Of a Redis that is replicated.
        self.sentinels: Sentinels | None = None
        #: Trees that ended in a way of their own, not by a signal or when asked to.
        self.given_up: list[str] = []
        self._reviving = Lock()

    def configure(self, name: str, value: str) -> None:
        """CONFIG SET, as soon as Redis answers."""

        def done() -> bool:
            # While it loads its file it refuses in words that differ between its versions.
            with suppress(redis.RedisError), self.connect() as client:
                return bool(client.config_set(name, value))
            return False

        wait_until(done, "a Redis that answers")

    def revive(self) -> None:
        """Start the trees that have ended, whatever the reason."""
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
    """A Redis, and workers that reach it through a proxy each; producers have one as well."""
    with ExitStack() as stack:
        # Killed, it may lose nothing: what is lost then is not the fault of Blipline.
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
def running_replicated_cluster(directory: Path, workers: int = 2) -> Iterator[Cluster]:
    """A Redis with a replica, watched by three Sentinels, and workers that ask these for it."""
    with ExitStack() as stack:
        # A master that has lost its replica takes no writes that would be lost with it.
        sentinels = stack.enter_context(running_sentinels(directory, "min-replicas-to-write 1"))
        trees = [Worker(directory / f"worker-{n}", sentinels.url) for n in range(workers)]

        def connect() -> redis.Redis:
            master = sentinels.master()
            assert master is not None
            return master.connect()

        cluster = Cluster(directory, sentinels.url, trees, connect)
        cluster.sentinels = sentinels
        start_workers(stack, trees)
        yield cluster


def start_workers(stack: ExitStack, workers: list[Worker]) -> None:
    """Start them side by side, and wait for all; they end with the stack."""
    for worker in workers:
        stack.callback(worker.end)
        worker.start()
    for worker in workers:
        worker.wait_ready()
