"""A process that the supervisor keeps alive."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from worker.lifeline import LIFELINE_FD, announced_by
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
#: Seconds between attempts while another engine is running.
ALREADY_RUNNING_PAUSE_S: Final = 2.0


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
        on_death: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._environment = environment
        self._ready = ready
        #: Called after each death, before the process is started again.
        self._on_death = on_death
        #: Seconds without an update of the file after which it counts as hung; None: no heartbeat.
        self._heartbeat_s = heartbeat_s
        #: The file's last modification time, and the monotonic time of its observation.
        self._heartbeat: tuple[float, float] = (0.0, 0.0)
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self._ready_since: float | None = None
        self._start_at = 0.0

    def add_arguments(self, *arguments: str) -> None:
        """Add arguments to the command of every later start."""
        self._command += arguments

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
        log.info("%s started: process %d", self.name, self._process.pid)

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
        self._on_death()
        if code == EXIT_PERMANENT:
            raise ChildFailed(f"{message}: see the message above", code)
        if self._deaths >= MAX_DEATHS:
            raise ChildFailed(f"{message}, {self._deaths} times in a row; it is not restarted", 1)
        pause_s = FIRST_PAUSE_S * 2 ** (self._deaths - 1)
        self._start_at = now + pause_s
        log.warning("%s; starting it again in %.1f s", message, pause_s)


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
