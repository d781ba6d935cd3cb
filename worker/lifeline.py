"""The lifeline between the supervisor and its children: readiness files and death detection."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: Environment variable with the file descriptor of a pipe. The supervisor keeps its other end open:
#: end of file means that the supervisor has died.
LIFELINE_FD: Final = "BLIPLINE_LIFELINE_FD"

#: Environment variable with the path of a file to which a child writes its process id once it is
#: ready. A consumer removes the file when it shuts down; an engine touches it as its heartbeat.
READY_FILE: Final = "BLIPLINE_CHILD_READY_FILE"


def announce() -> None:
    """Report readiness to the supervisor, if there is one; repeated calls are the heartbeat."""
    path = os.environ.get(READY_FILE)
    if path is None:
        return
    if announced_by(Path(path)) == os.getpid():
        Path(path).touch()
        return
    # Written atomically: the supervisor may read it at any time.
    temporary = Path(f"{path}.{os.getpid()}")
    temporary.write_text(str(os.getpid()))
    temporary.replace(path)


def announced_by(path: Path) -> int | None:
    """Return the id of the process that has reported readiness in this file, or None."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def withdraw() -> None:
    """Report to the supervisor, if there is one, that this process takes no more work."""
    path = os.environ.get(READY_FILE)
    if path is not None:
        Path(path).unlink(missing_ok=True)


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
