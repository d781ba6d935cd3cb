"""The list of a supervisor's processes in its run directory, which `health` reads.

The modification time of the file is the supervisor's heartbeat. This module imports the standard
library only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

FILE_NAME: Final = "processes.json"


@dataclass(frozen=True)
class ProcessEntry:
    """A process that the supervisor keeps alive."""

    name: str
    #: Name of its state file.
    state_file: str
    #: Seconds without a heartbeat after which the supervisor kills it; None: it sends none.
    silence_s: float | None
    #: Name of its run directory if it is a supervisor itself.
    directory: str | None = None


@dataclass(frozen=True)
class ProcessList:
    """A supervisor, and the processes that it keeps alive."""

    pid: int
    entries: list[ProcessEntry]
    #: Time of the supervisor's last heartbeat in nanoseconds since the epoch.
    heartbeat_ns: int


def write(run_dir: Path, entries: Iterable[ProcessEntry]) -> None:
    """Write the list of this supervisor atomically."""
    document = {"pid": os.getpid(), "processes": [asdict(entry) for entry in entries]}
    temporary = run_dir / f"{FILE_NAME}.{os.getpid()}"
    temporary.write_text(json.dumps(document))
    temporary.replace(run_dir / FILE_NAME)


def touch(run_dir: Path) -> None:
    """Send the heartbeat of the supervisor."""
    (run_dir / FILE_NAME).touch()


def remove(run_dir: Path) -> None:
    """Remove the list of a supervisor that ends."""
    (run_dir / FILE_NAME).unlink(missing_ok=True)


def read(run_dir: Path) -> ProcessList | None:
    """Return the list in a run directory; None if no supervisor has written any."""
    path = run_dir / FILE_NAME
    try:
        document = json.loads(path.read_text())
        entries = [ProcessEntry(**entry) for entry in document["processes"]]
        return ProcessList(int(document["pid"]), entries, path.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError):
        return None
