"""What consumers and the engine say to each other over a Unix socket of this machine.

Messages are pickled by `multiprocessing.connection`; whoever can open the socket could therefore
run code here, so it lies in a directory that belongs to this user alone.

=====================  =====================================================================
consumer → engine      ``Rows``, ``Cancel``, ``FeatureQuery``, ``StatsQuery``
engine → consumer      ``EngineInfo`` (first, once), ``Answers``, ``Reply``
=====================  =====================================================================
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from dataclasses import dataclass
from io import TextIOWrapper
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from worker.engine.request import Answer, Request

#: What `sockaddr_un` holds, less the end mark.
MAX_SOCKET_PATH_BYTES = 107


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a consumer must know to prepare rows for one model."""

    name: str
    revision: str
    #: Side of the model's square input, in pixels.
    image_size: int
    #: Pillow's number of the resampling filter.
    resample: int
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Who answers, and by which models."""

    pid: int
    models: tuple[ModelInfo, ...]

    def model_for(self, task: str) -> ModelInfo | None:
        """The model that does a task; None where none does."""
        return next((model for model in self.models if task in model.tasks), None)

    @property
    def tasks(self) -> list[str]:
        """Every task that some model does."""
        return sorted({task for model in self.models for task in model.tasks})


@dataclass(frozen=True, slots=True)
class Rows:
    """Work; ids are the consumer's own."""

    requests: list[Request]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody wants these any more; each still gets its one answer."""

    ids: list[int]


@dataclass(frozen=True, slots=True)
class FeatureQuery:
    """Which of these images need no pixels for a task, since their features are at hand?"""

    token: int
    hashes: list[str]
    task: str


@dataclass(frozen=True, slots=True)
class StatsQuery:
    """What has the engine done since its start?"""

    token: int


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to an Ask: a set of hashes, or the engine's figures."""

    token: int
    value: Any


@dataclass(frozen=True, slots=True)
class Answers:
    """Rows that have ended."""

    answers: list[Answer]


def disconnect(connection: Connection[Any, Any]) -> None:
    """End a connection that another thread is reading: that thread reads end of file, and closes.

    To close it here would leave that thread blocked, on a descriptor that may be used anew.
    """
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
    except OSError:
        # It has ended already.
        return


def private_dir(path: Path) -> Path:
    """Make the directory, for this user alone; PermissionError if it is somebody else's."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(
            f"{path} must belong to user {os.getuid()} alone (mode 0700): "
            "set BLIPLINE_RUN_DIR to a private directory"
        )
    return path


def acquire_lock(path: Path) -> TextIOWrapper | None:
    """Take this lock until the file is closed or the process ends; None if somebody has it."""
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def socket_path(run_dir: Path) -> Path:
    """Where the engine of this directory listens; OSError if no socket can have such a path."""
    path = run_dir / "engine.sock"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise OSError(f"{path} is too long for a Unix socket: set a shorter BLIPLINE_RUN_DIR")
    return path
