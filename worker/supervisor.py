"""The supervisor: the process tree of one accelerator, an engine and its consumers.

Each model setting is resolved to a directory once, by a download if necessary. Then the engine
starts with these directories, also after a crash; the consumers start once it is ready. The
supervisor restarts a child that dies, with exponential backoff. A child that dies repeatedly ends
the process tree.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from config.settings import WorkerSettings
from producer.contract import Queue
from worker.child import EXIT_ALREADY_RUNNING, EXIT_PERMANENT, Child, ChildFailed
from worker.engine.errors import LoadError
from worker.engine.protocol import acquire_lock, private_dir
from worker.hub.adapters import compose
from worker.hub.cache import find_snapshot
from worker.hub.reference import HubModel, Snapshot
from worker.lifeline import READY_FILE
from worker.shared_metrics import MetricsUnavailable, SharedMetrics

log = logging.getLogger(__name__)

POLL_S: Final = 0.1
#: Seconds beyond a step's time limit after which an engine without a heartbeat is killed.
HEARTBEAT_GRACE_S: Final = 10.0
#: Maximum seconds for the engine to end: it has no more work.
ENGINE_GRACE_S: Final = 10.0
#: Maximum seconds for a download to end; a killed one leaves only files that are not used.
DOWNLOAD_GRACE_S: Final = 1.0


class Stopped(Exception):
    """A stop of the process tree while it still downloads."""


class Supervisor:
    """The process tree, run until it is stopped."""

    def __init__(self, settings: WorkerSettings, on_ready: Callable[[], None]) -> None:
        self._run_dir = run_dir = private_dir(settings.runtime_dir())
        self._grace_s = settings.grace_s
        self._ready_file = settings.ready_file or run_dir / "ready"
        self._on_ready = on_ready
        if not self._ready_file.parent.is_dir():
            raise OSError(f"BLIPLINE_READY_FILE={self._ready_file}: the directory does not exist")
        self._checkpoints = settings.checkpoints()
        self._environment = environment = settings.environment()
        self._metrics = metrics = SharedMetrics(run_dir, settings.metrics_port)
        self._engine = _child(
            "engine",
            ["-m", "worker.engine"],
            # The engine has directories; the libraries that read them need no hub.
            {**environment, "HF_HUB_OFFLINE": "1", **metrics.environment("engine")},
            run_dir / "engine.ready",
            # The engine's own watchdog acts first and logs the stacks of all threads.
            heartbeat_s=settings.step_timeout_s + HEARTBEAT_GRACE_S,
            on_death=partial(metrics.record_death, "engine"),
        )
        concurrency = {
            Queue.INTERACTIVE: settings.interactive_slots,
            Queue.BULK: settings.bulk_slots,
        }
        self._consumers = [
            _consumer(queue, count, environment, run_dir / f"{queue}.ready", metrics)
            for queue, count in concurrency.items()
        ]
        self._stop = threading.Event()
        self._stop_now = threading.Event()

    def stop(self) -> None:
        """Finish running jobs, then end; after a second call, end without waiting for them."""
        (self._stop_now if self._stop.is_set() else self._stop).set()

    def run(self) -> int:
        """Run the tree until it is stopped; return the exit code."""
        lock = acquire_lock(self._run_dir / "supervisor.lock")
        if lock is None:
            log.error(
                "a worker is already running in %s. There is one per accelerator; "
                "to run another, set BLIPLINE_RUN_DIR",
                self._run_dir,
            )
            return EXIT_ALREADY_RUNNING
        with lock:
            try:
                self._metrics.serve()
                return self._run()
            except MetricsUnavailable as error:
                log.error("%s", error)
                return EXIT_PERMANENT
            finally:
                self._metrics.close()

    def _run(self) -> int:
        # The write end stays open and unused: children read end of file when this process dies.
        lifeline, _write_end = os.pipe()
        try:
            for model in self._checkpoints:
                compose(*model, lambda reference: self._resolve(reference, lifeline))
            self._supervise_until_stopped(lifeline)
        except Stopped:
            log.info("stopped during a download")
        except LoadError as error:
            log.error("%s", error)
            return EXIT_PERMANENT
        except ChildFailed as error:
            log.error("%s", error)
            return error.exit_code
        finally:
            self._publish_readiness(False)
            self._drain(lifeline)
            for consumer in self._consumers:
                consumer.kill("it was still running at the end of the shutdown")
            self._engine.end(ENGINE_GRACE_S)
        return 0

    def _resolve(self, model: Snapshot | HubModel, lifeline: int) -> Snapshot:
        """Return the files of a reference, after a download if necessary, and tell the engine.

        Raises ChildFailed if they cannot be downloaded, Stopped if stopped meanwhile.
        """
        snapshot = model if isinstance(model, Snapshot) else self._download(model, lifeline)
        self._engine.add_arguments("--directory", str(snapshot.directory))
        return snapshot

    def _download(self, model: HubModel, lifeline: int) -> Snapshot:
        command = ["-m", "worker", "download", model.title, f"--revision={model.revision}"]
        command.append("--without-base")
        ready = self._run_dir / "download.ready"
        download = _child(f"download of {model}", command, self._environment, ready)
        try:
            while (snapshot := find_snapshot(model)) is None:
                download.supervise(lifeline)
                if self._stop.wait(POLL_S):
                    raise Stopped
            return snapshot
        finally:
            download.end(DOWNLOAD_GRACE_S)

    def _supervise_until_stopped(self, lifeline: int) -> None:
        announced = False
        while not self._stop.wait(POLL_S):
            self._engine.supervise(lifeline)
            if self._engine.ready or announced:
                for consumer in self._consumers:
                    consumer.supervise(lifeline)
            ready = self._engine.ready and all(consumer.ready for consumer in self._consumers)
            self._publish_readiness(ready)
            if ready and not announced:
                announced = True
                self._on_ready()

    def _publish_readiness(self, ready: bool) -> None:
        self._metrics.set_ready(ready)
        if ready:
            self._ready_file.touch()
        else:
            self._ready_file.unlink(missing_ok=True)

    def _drain(self, lifeline: int) -> None:
        """Wait until consumers have finished their chunks, for at most the grace time.

        They need the engine for that.
        """
        for consumer in self._consumers:
            consumer.signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while any(consumer.alive for consumer in self._consumers) and time.monotonic() < deadline:
            try:
                self._engine.supervise(lifeline)
            except ChildFailed as error:
                log.error("%s", error)
                return
            if self._stop_now.wait(POLL_S):
                return


def _consumer(
    queue: Queue,
    concurrency: int,
    environment: Mapping[str, str],
    ready: Path,
    metrics: SharedMetrics,
) -> Child:
    command = ["-m", "celery", "--quiet", "-A", "worker.celery_app", "worker"]
    # With threads, one process handles many messages without forking.
    command += ["-P", "threads", "-c", str(concurrency), "-Q", queue.value]
    # The process id makes node names unique among the process trees of a host.
    command += ["-n", f"{queue.value}-{os.getpid()}@%h"]
    # Consumers do not communicate with each other.
    command += ["--without-gossip", "--without-mingle", "-l", "WARNING"]
    return _child(
        queue.value,
        command,
        {**environment, **metrics.environment(queue.value)},
        ready,
        on_death=partial(metrics.record_death, queue.value),
    )


def _child(
    name: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    ready: Path,
    heartbeat_s: float | None = None,
    on_death: Callable[[], object] = lambda: None,
) -> Child:
    command = [sys.executable, *arguments]
    environment = {**environment, READY_FILE: str(ready)}
    return Child(name, command, environment, ready, heartbeat_s, on_death)
