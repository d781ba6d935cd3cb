"""The process tree of one accelerator: an engine, and consumers that feed it.

The engine comes first; once it is warm the consumers start. A child that dies is started again,
with growing pauses; one that keeps dying ends the tree.
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
from worker.engine.protocol import hold_lock, private_dir
from worker.lifeline import LIFELINE_FD, READY_FILE, announced_by

log = logging.getLogger(__name__)

#: A child's exit code that says: to start it again would not help.
EXIT_UNUSABLE: Final = 2
#: The engine's exit code that says: another one is there, of a tree that was killed and still
#: finishes its work, or of a consumer that was started by hand.
EXIT_TAKEN: Final = 3
#: Deaths in a row, none after a steady time, that end the tree.
MAX_DEATHS: Final = 5
#: Seconds of being ready after which earlier deaths are forgotten.
STEADY_S: Final = 10.0
FIRST_PAUSE_S: Final = 0.1
POLL_S: Final = 0.1
#: Seconds between two tries while another engine is there.
TAKEN_PAUSE_S: Final = 2.0
#: Seconds beyond a step's time after which an engine that gives no sign of life is killed.
HEARTBEAT_GRACE_S: Final = 10.0
#: Seconds that the engine may take to end: it holds no work any more.
ENGINE_GRACE_S: Final = 10.0


class ChildFailed(Exception):
    """A child cannot be kept alive; the message says which, and why."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Child:
    """A process that is kept alive, and the file that says it is ready."""

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
        #: Seconds without a touch of its file after which it counts as hung; None: it need not.
        self._heartbeat_s = heartbeat_s
        self._touched: tuple[float, float] = (0.0, 0.0)
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self._ready_since: float | None = None
        self._start_at = 0.0

    @property
    def ready(self) -> bool:
        """Alive, and serving."""
        # An engine of a tree that was killed may still be there, and say that it serves.
        return self.alive and announced_by(self._ready) == self._pid

    @property
    def _pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def mind(self, lifeline: int) -> None:
        """Start it where it should run and does not; raises ChildFailed when that is hopeless."""
        now = time.monotonic()
        if self.alive:
            self._ready_since = (self._ready_since or now) if self.ready else None
            if self._ready_since is not None and now - self._ready_since > STEADY_S:
                self._deaths = 0
            if self._hangs(now):
                log.error("%s gives no sign of life", self.name)
                self.kill()
            return
        if self._process is not None:
            self._bury(now)
        if now >= self._start_at:
            self._start(lifeline)

    def _hangs(self, now: float) -> bool:
        """Whether its file has not been touched for too long, on a clock that never jumps."""
        if self._heartbeat_s is None or not self.ready:
            return False
        touched = self._ready.stat().st_mtime
        if touched != self._touched[0]:
            self._touched = (touched, now)
        return now - self._touched[1] > self._heartbeat_s

    def signal(self, number: int) -> None:
        """Send a signal, if there is anyone to get it."""
        if self._process is not None and self.alive:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it now, if it has not ended by itself."""
        if self.alive:
            log.warning("%s has not ended within its time: killed", self.name)
            self.signal(signal.SIGKILL)

    def end(self, timeout_s: float) -> None:
        """SIGTERM, then SIGKILL after the timeout."""
        self.signal(signal.SIGTERM)
        if self._process is None:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()

    def _start(self, lifeline: int) -> None:
        # A file of a predecessor that was killed says nothing about this process.
        self._ready.unlink(missing_ok=True)
        # A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which then
        # ends its children in the right order.
        self._process = subprocess.Popen(
            self._command,
            env={**os.environ, **self._environment, LIFELINE_FD: str(lifeline)},
            pass_fds=[lifeline],
            # stdout is for the supervisor's `ready`.
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        )

    def _bury(self, now: float) -> None:
        assert self._process is not None
        code = self._process.returncode
        self._process = None
        self._ready_since = None
        how = f"{self.name} ended with {_describe(code)}"
        if code == EXIT_TAKEN:
            self._start_at = now + TAKEN_PAUSE_S
            return
        self._deaths += 1
        if code == EXIT_UNUSABLE:
            raise ChildFailed(f"{how}: see its message above", code)
        if self._deaths >= MAX_DEATHS:
            raise ChildFailed(f"{how}, {self._deaths} times in a row: giving up", 1)
        pause_s = FIRST_PAUSE_S * 2 ** (self._deaths - 1)
        self._start_at = now + pause_s
        log.warning("%s; starting it again in %.1f s", how, pause_s)


class Supervisor:
    """Runs the tree until it is told to stop."""

    def __init__(self, settings: WorkerSettings, on_ready: Callable[[], None]) -> None:
        self._run_dir = run_dir = private_dir(settings.runtime_dir())
        self._grace_s = settings.grace_s
        self._ready_file = settings.ready_file or run_dir / "ready"
        self._on_ready = on_ready
        if not self._ready_file.parent.is_dir():
            raise OSError(f"BLIPLINE_READY_FILE={self._ready_file}: there is no such directory")
        environment = settings.environment()
        self._engine = _child(
            "engine",
            ["-m", "worker.engine"],
            environment,
            run_dir / "engine.ready",
            # Its own watchdog comes first, and says where it hung.
            heartbeat_s=settings.step_timeout_s + HEARTBEAT_GRACE_S,
        )
        slots = {Queue.INTERACTIVE: settings.interactive_slots, Queue.BULK: settings.bulk_slots}
        self._consumers = [
            _consumer(queue, count, environment, run_dir / f"{queue}.ready")
            for queue, count in slots.items()
        ]
        self._stop = threading.Event()
        self._hurry = threading.Event()

    def stop(self) -> None:
        """Finish what was begun, then end; a second call does not wait for it."""
        (self._hurry if self._stop.is_set() else self._stop).set()

    def run(self) -> int:
        """The whole life of the tree; returns the exit code."""
        lock = hold_lock(self._run_dir / "supervisor.lock")
        if lock is None:
            log.error(
                "a worker runs in %s already; an accelerator has one. "
                "For a second one set BLIPLINE_RUN_DIR",
                self._run_dir,
            )
            return EXIT_TAKEN
        with lock:
            return self._run()

    def _run(self) -> int:
        # Held, never written to: children read its end of file when this process is gone.
        lifeline, _held = os.pipe()
        try:
            self._mind_until_stopped(lifeline)
        except ChildFailed as failure:
            log.error("%s", failure)
            return failure.exit_code
        finally:
            self._ready_file.unlink(missing_ok=True)
            self._drain(lifeline)
            for consumer in self._consumers:
                consumer.kill()
            self._engine.end(ENGINE_GRACE_S)
        return 0

    def _mind_until_stopped(self, lifeline: int) -> None:
        announced = False
        while not self._stop.wait(POLL_S):
            self._engine.mind(lifeline)
            if self._engine.ready or announced:
                for consumer in self._consumers:
                    consumer.mind(lifeline)
            ready = self._engine.ready and all(one.ready for one in self._consumers)
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
        """Consumers finish what they hold, within the grace time; they need the engine for it."""
        for consumer in self._consumers:
            consumer.signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while any(one.alive for one in self._consumers) and time.monotonic() < deadline:
            try:
                self._engine.mind(lifeline)
            except ChildFailed as failure:
                log.error("%s", failure)
                return
            if self._hurry.wait(POLL_S):
                return


def _consumer(queue: Queue, slots: int, environment: Mapping[str, str], ready: Path) -> Child:
    command = ["-m", "celery", "--quiet", "-A", "worker.celery_app", "worker"]
    # With threads one process serves many messages, and none is forked with a model in it.
    command += ["-P", "threads", "-c", str(slots), "-Q", queue.value]
    # Several trees on one host are several nodes.
    command += ["-n", f"{queue.value}-{os.getpid()}@%h"]
    # Consumers have nothing to tell each other.
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
