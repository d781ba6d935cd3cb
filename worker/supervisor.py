"""The supervisor: the process tree of one accelerator, an engine and its consumers.

The engine starts first; the consumers start once it is ready. The supervisor restarts a child that
dies, with exponential backoff. A child that dies repeatedly ends the process tree.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from config.settings import WorkerSettings
from producer.contract import Queue
from worker.engine.protocol import acquire_lock, private_dir
from worker.lifeline import LIFELINE_FD, READY_FILE, announced_by
from worker.streams import STDERR_FILENO

log = logging.getLogger(__name__)

#: Exit code of a permanent failure; the child is not restarted.
EXIT_PERMANENT: Final = 2
#: Exit code of an engine if another engine is already running: either that of a killed process tree
#: that is finishing its work, or that of a consumer that an operator started.
EXIT_ALREADY_RUNNING: Final = 3
#: Number of consecutive deaths without a steady period that ends the process tree.
MAX_DEATHS: Final = 5
#: Seconds of readiness after which the number of deaths is reset.
STEADY_S: Final = 10.0
FIRST_PAUSE_S: Final = 0.1
POLL_S: Final = 0.1
#: Seconds between attempts while another engine is running.
ALREADY_RUNNING_PAUSE_S: Final = 2.0
#: Seconds beyond a step's time limit after which an engine without a heartbeat is killed.
HEARTBEAT_GRACE_S: Final = 10.0
#: Maximum seconds for the engine to end: it has no more work.
ENGINE_GRACE_S: Final = 10.0


class ChildFailed(Exception):
    """A child that cannot be kept alive; the message names the child and the reason."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Child:
    """A process that the supervisor keeps alive, and its readiness file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        ready: Path,
        heartbeat_s: float | None = None,
    ) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._ready = ready
        #: Seconds without an update of the file after which it counts as hung; None: no heartbeat.
        self._heartbeat_s = heartbeat_s
        #: The file's last modification time, and the monotonic time of its observation.
        self._heartbeat: tuple[float, float] = (0.0, 0.0)
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self._ready_since: float | None = None
        self._start_at = 0.0

    @property
    def ready(self) -> bool:
        """True if the process runs and has reported readiness."""
        # The file may belong to an engine of a killed process tree that is still running.
        return self.alive and announced_by(self._ready) == self._pid

    @property
    def _pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """True if the process runs."""
        return self._process is not None and self._process.poll() is None

    def supervise(self, lifeline: int) -> None:
        """Restart the process if it has died; kill it if it hangs. Raises ChildFailed."""
        now = time.monotonic()
        if self.alive:
            self._ready_since = (self._ready_since or now) if self.ready else None
            if self._ready_since is not None and now - self._ready_since > STEADY_S:
                self._deaths = 0
            if self._hangs(now):
                self.kill(f"no heartbeat for {self._heartbeat_s:g} s")
            return
        if self._process is not None:
            self._record_death(now)
        if now >= self._start_at:
            self._start(lifeline)

    def _hangs(self, now: float) -> bool:
        """Return whether the heartbeat is overdue, by the monotonic clock."""
        if self._heartbeat_s is None or not self.ready:
            return False
        modified = self._ready.stat().st_mtime
        if modified != self._heartbeat[0]:
            self._heartbeat = (modified, now)
        return now - self._heartbeat[1] > self._heartbeat_s

    def signal(self, number: int) -> None:
        """Send a signal to the process if it runs."""
        if self._process is not None and self.alive:
            self._process.send_signal(number)

    def kill(self, reason: str) -> None:
        """Kill the process if it still runs, and log the reason."""
        if self.alive:
            log.warning("%s: killed: %s", self.name, reason)
            self.signal(signal.SIGKILL)

    def end(self, timeout_s: float) -> None:
        """Send SIGTERM, then SIGKILL after the timeout."""
        self.signal(signal.SIGTERM)
        if self._process is None:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill(f"it did not end within {timeout_s:g} s")
            self._process.wait()

    def _start(self, lifeline: int) -> None:
        # The readiness file of a killed predecessor must not count for this process.
        self._ready.unlink(missing_ok=True)
        # A new session, so that Ctrl-C in a terminal reaches only the supervisor, which ends its
        # children in order.
        self._process = subprocess.Popen(
            self._command,
            env={**os.environ, **self._environment, LIFELINE_FD: str(lifeline)},
            pass_fds=[lifeline],
            # stdout is reserved for the supervisor's `ready`.
            stdout=STDERR_FILENO,
            start_new_session=True,
        )

    def _record_death(self, now: float) -> None:
        assert self._process is not None
        code = self._process.returncode
        self._process = None
        self._ready_since = None
        message = f"{self.name} ended with {_describe(code)}"
        if code == EXIT_ALREADY_RUNNING:
            self._start_at = now + ALREADY_RUNNING_PAUSE_S
            return
        self._deaths += 1
        if code == EXIT_PERMANENT:
            raise ChildFailed(f"{message}: see the message above", code)
        if self._deaths >= MAX_DEATHS:
            raise ChildFailed(f"{message}, {self._deaths} times in a row; it is not restarted", 1)
        pause_s = FIRST_PAUSE_S * 2 ** (self._deaths - 1)
        self._start_at = now + pause_s
        log.warning("%s; starting it again in %.1f s", message, pause_s)


class Supervisor:
    """The process tree, run until it is stopped."""

    def __init__(self, settings: WorkerSettings, on_ready: Callable[[], None]) -> None:
        self._run_dir = run_dir = private_dir(settings.runtime_dir())
        self._grace_s = settings.grace_s
        self._ready_file = settings.ready_file or run_dir / "ready"
        self._on_ready = on_ready
        if not self._ready_file.parent.is_dir():
            raise OSError(f"BLIPLINE_READY_FILE={self._ready_file}: the directory does not exist")
        environment = settings.environment()
        self._engine = _child(
            "engine",
            ["-m", "worker.engine"],
            environment,
            run_dir / "engine.ready",
            # The engine's own watchdog acts first and logs the stacks of all threads.
            heartbeat_s=settings.step_timeout_s + HEARTBEAT_GRACE_S,
        )
        concurrency = {
            Queue.INTERACTIVE: settings.interactive_slots,
            Queue.BULK: settings.bulk_slots,
        }
        self._consumers = [
            _consumer(queue, count, environment, run_dir / f"{queue}.ready")
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
            return self._run()

    def _run(self) -> int:
        # The write end stays open and unused: children read end of file when this process dies.
        lifeline, _write_end = os.pipe()
        try:
            self._supervise_until_stopped(lifeline)
        except ChildFailed as error:
            log.error("%s", error)
            return error.exit_code
        finally:
            self._ready_file.unlink(missing_ok=True)
            self._drain(lifeline)
            for consumer in self._consumers:
                consumer.kill("it was still running at the end of the shutdown")
            self._engine.end(ENGINE_GRACE_S)
        return 0

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


def _consumer(queue: Queue, concurrency: int, environment: Mapping[str, str], ready: Path) -> Child:
    command = ["-m", "celery", "--quiet", "-A", "worker.celery_app", "worker"]
    # With threads, one process handles many messages without forking.
    command += ["-P", "threads", "-c", str(concurrency), "-Q", queue.value]
    # The process id makes node names unique among the process trees of a host.
    command += ["-n", f"{queue.value}-{os.getpid()}@%h"]
    # Consumers do not communicate with each other.
    command += ["--without-gossip", "--without-mingle", "-l", "WARNING"]
    return _child(queue.value, command, environment, ready)


def _child(
    name: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    ready: Path,
    heartbeat_s: float | None = None,
) -> Child:
    command = [sys.executable, *arguments]
    return Child(name, command, {**environment, READY_FILE: str(ready)}, ready, heartbeat_s)


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
