"""A process that the supervisor keeps alive."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Final

from worker.processes.cores import pinned
from worker.processes.lifeline import (
    LIFELINE_FD,
    READY,
    STATE_FILE,
    STOPPING,
    StateFile,
    StateReport,
)
from worker.processes.streams import STDERR_FILENO

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
#: Seconds before a further start, doubled with each death up to the maximum.
FIRST_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 60.0
MAX_DOUBLINGS: Final = 10
#: Maximum seconds that a round of supervision adds to a child's silence.
MAX_ROUND_S: Final = 1.0
#: Seconds between attempts while another engine is running.
ALREADY_RUNNING_PAUSE_S: Final = 2.0


class ChildFailed(Exception):
    """A child that cannot be kept alive; the message names the child and the reason."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Child:
    """A process that the supervisor keeps alive, and its state file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        state_file: Path,
        silence_s: float | None = None,
        *,
        on_death: Callable[[], object] = lambda: None,
        cores: Set[int] | None = None,
        gives_up: bool = True,
    ) -> None:
        self.name = name
        self.state_file = state_file
        self._state = StateFile(state_file)
        #: Seconds without a heartbeat after which it counts as hung; None: it sends none.
        self.silence_s = silence_s
        #: Cores that it may use; None: those of this process.
        self._cores = cores
        #: False: once it was ready, it is restarted after every death.
        self._gives_up = gives_up
        self._was_ready = False
        self._command = list(command)
        self._environment = {**environment, STATE_FILE: str(state_file)}
        #: Called after each death, before the process is started again.
        self._on_death = on_death
        #: The last heartbeat, and the seconds of supervision without a further one.
        self._heartbeat_ns = 0
        self._silent_s = 0.0
        self._supervised_at = 0.0
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
        return self.alive and (report := self._report()) is not None and report.state == READY

    def _report(self) -> StateReport | None:
        """Return the last report of this process, if it has sent any."""
        report = self._state.read()
        # The file may belong to an engine of a killed process tree that is still running.
        if report is None or self._process is None or report.pid != self._process.pid:
            return None
        return report

    @property
    def alive(self) -> bool:
        """True if the process runs."""
        return self._process is not None and self._process.poll() is None

    def supervise(self, lifeline: int) -> None:
        """Restart the process if it has died; kill it if it hangs. Raises ChildFailed."""
        now = time.monotonic()
        if self.alive:
            self._ready_since = (self._ready_since or now) if self.ready else None
            self._was_ready |= self._ready_since is not None
            if self._ready_since is not None and now - self._ready_since > STEADY_S:
                self._deaths = 0
            if self._hangs(now):
                self.kill(f"no heartbeat for {self.silence_s:g} s")
            return
        if self._process is not None:
            self._record_death(now)
        if now >= self._start_at:
            self._start(lifeline)

    def _hangs(self, now: float) -> bool:
        """Return whether the heartbeat is overdue, by the monotonic clock."""
        # A pause of the whole container is not the child's silence.
        elapsed_s, self._supervised_at = min(now - self._supervised_at, MAX_ROUND_S), now
        report = self._report()
        if self.silence_s is None or report is None or report.state == STOPPING:
            self._silent_s = 0.0
            return False
        beats, self._heartbeat_ns = report.heartbeat_ns != self._heartbeat_ns, report.heartbeat_ns
        self._silent_s = 0.0 if beats else self._silent_s + elapsed_s
        return self._silent_s > self.silence_s

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
        # The state of a predecessor must not count for this process.
        self.state_file.unlink(missing_ok=True)
        # A new session, so that Ctrl-C in a terminal reaches only the supervisor, which ends its
        # children in order.
        with pinned(self._cores):
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
        if self._gives_up or not self._was_ready:
            self._check_deaths(message, code)
        pause_s = min(FIRST_PAUSE_S * 2 ** min(self._deaths - 1, MAX_DOUBLINGS), MAX_PAUSE_S)
        self._start_at = now + pause_s
        log.warning("%s; starting it again in %.1f s", message, pause_s)

    def _check_deaths(self, message: str, code: int) -> None:
        """Raise ChildFailed if a further start is useless."""
        if code == EXIT_PERMANENT:
            raise ChildFailed(f"{message}: see the message above", code)
        if self._deaths >= MAX_DEATHS:
            raise ChildFailed(f"{message}, {self._deaths} times in a row; it is not restarted", 1)


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
