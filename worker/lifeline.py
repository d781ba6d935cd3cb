"""What the supervisor tells its children through their environment."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: The file descriptor to watch: the supervisor holds the other end of the pipe for as long as it
#: lives, so end of file tells its death, however it died.
LIFELINE_FD: Final = "BLIPLINE_LIFELINE_FD"

#: A child writes its process id there when it serves; a consumer removes the file when it begins to
#: shut down, and an engine goes on touching it for as long as its loop turns.
READY_FILE: Final = "BLIPLINE_CHILD_READY_FILE"


def announce() -> None:
    """Tell the supervisor, if there is one, that this process serves; again as a sign of life."""
    path = os.environ.get(READY_FILE)
    if path is None:
        return
    if announced_by(Path(path)) == os.getpid():
        Path(path).touch()
        return
    # All at once: the supervisor may look at any moment.
    fresh = Path(f"{path}.{os.getpid()}")
    fresh.write_text(str(os.getpid()))
    fresh.replace(path)


def announced_by(path: Path) -> int | None:
    """Which process serves, by what this file says."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def withdraw() -> None:
    """Tell the supervisor, if there is one, that this process takes no more."""
    path = os.environ.get(READY_FILE)
    if path is not None:
        Path(path).unlink(missing_ok=True)


def when_orphaned(act: Callable[[], None]) -> None:
    """Call `act`, from a thread, when the supervisor is gone. Without a supervisor, do nothing."""
    descriptor = os.environ.pop(LIFELINE_FD, None)
    if descriptor is None:
        return

    def watch() -> None:
        while os.read(int(descriptor), 1):
            pass
        act()

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
