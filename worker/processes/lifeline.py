"""The lifeline between the supervisor and its children: state files and death detection.

`python -m worker health` reads the state files, so this module imports the standard library only.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Environment variable with the file descriptor of a pipe. The supervisor keeps its other end open:
#: end of file means that the supervisor has died.
LIFELINE_FD: Final = "BLIPLINE_LIFELINE_FD"
#: Environment variable with the path of a child's state file: its process id and its state. The
#: modification time is its heartbeat.
STATE_FILE: Final = "BLIPLINE_CHILD_STATE_FILE"
#: Environment variable with the name of a process tree's device, if a machine has several trees.
TREE_NAME: Final = "BLIPLINE_TREE_NAME"
#: Seconds between two heartbeats.
HEARTBEAT_S: Final = 1.0

READY: Final = "ready"
STOPPING: Final = "stopping"

#: Signal with which a consumer asks its supervisor for the orderly end of the worker.
SHUTDOWN_SIGNAL: Final = signal.SIGUSR2


def request_shutdown() -> bool:
    """Ask the supervisor to end the worker; return False without a supervisor."""
    if is_supervised():
        os.kill(os.getppid(), SHUTDOWN_SIGNAL)
    return is_supervised()


@dataclass(frozen=True)
class StateReport:
    """The last report of a child."""

    pid: int
    #: READY, STOPPING, or the reason why the child takes no work.
    state: str
    #: Time of the last heartbeat in nanoseconds since the epoch.
    heartbeat_ns: int


def log_name(role: str) -> str:
    """Return the name of this process in log lines: its role, and its tree if there are several."""
    return " ".join([role, *filter(None, [os.environ.get(TREE_NAME)])])


def is_supervised() -> bool:
    """Return whether a supervisor reads this process's state."""
    return STATE_FILE in os.environ


def report(state: str = READY) -> None:
    """Report a state to the supervisor, if there is one; repeated calls are the heartbeat.

    A process that stops takes no further work: its state stays.
    """
    if not is_supervised():
        return
    path = Path(os.environ[STATE_FILE])
    last = read_report(path)
    if last is not None and last.pid == os.getpid() and last.state in (state, STOPPING):
        path.touch()
        return
    # Written atomically: the supervisor may read it at any time.
    temporary = Path(f"{path}.{os.getpid()}")
    temporary.write_text(f"{os.getpid()} {state}")
    temporary.replace(path)


def heartbeat() -> None:
    """Report the last state again, if this process has reported any."""
    if not is_supervised():
        return
    last = read_report(Path(os.environ[STATE_FILE]))
    if last is not None and last.pid == os.getpid():
        report(last.state)


def read_report(path: Path) -> StateReport | None:
    """Return the report in a state file, or None."""
    try:
        pid, _, state = path.read_text().partition(" ")
        return StateReport(int(pid), state, path.stat().st_mtime_ns)
    except (OSError, ValueError):
        return None


class StateFile:
    """The state file of a child, read only when it has changed: a supervisor asks often."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Inode and modification time at the last reading: a new state is a new file.
        self._version: tuple[int, int] | None = None
        self._report: StateReport | None = None

    def read(self) -> StateReport | None:
        """Return the report in the file, or None."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        version = status.st_ino, status.st_mtime_ns
        if version != self._version:
            self._version, self._report = version, read_report(self.path)
        return self._report


def on_supervisor_death(action: Callable[[], None]) -> None:
    """Call `action` from a thread when the supervisor dies. Do nothing without a supervisor."""
    descriptor = os.environ.pop(LIFELINE_FD, None)
    if descriptor is None:
        return

    def watch() -> None:
        while os.read(int(descriptor), 1):
            pass
        action()

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
