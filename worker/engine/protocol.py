"""Messages between consumers and the engine, over a Unix socket of this machine.

`multiprocessing.connection` pickles the messages, so any process that can open the socket can run
code in this one. The socket is therefore in a directory that only this user can access.

=====================  =====================================================================
consumer → engine      ``Rows``, ``Cancel``, ``FeatureQuery``, ``StatsQuery``
engine → consumer      ``EngineInfo`` (first, once), ``Answers``, ``PartialTexts``, ``Reply``
=====================  =====================================================================
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from worker.engine.frame import Frame, ImageBackend
from worker.engine.request import Answer, Request

#: Size of `sockaddr_un.sun_path` without the terminating NUL.
MAX_SOCKET_PATH_BYTES = 107


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """A named adapter that items can choose."""

    name: str
    #: Hash of its files.
    revision: str
    #: True if the features of an image depend on it.
    changes_features: bool


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The properties of a model that a consumer needs to prepare rows."""

    name: str
    revision: str
    #: Side of the model's square input, in pixels; `frame` describes another input. With
    #: `keeps_proportions`, side of the square with the maximum number of pixels.
    image_size: int
    #: Number of Pillow's resampling filter.
    resample: int
    tasks: tuple[str, ...]
    #: The hub's commit; empty for a model of a directory.
    commit: str = ""
    #: The pixels that the model reads of an image; None: a square of `image_size`.
    frame: Frame | None = None
    #: The model's own processor resizes images, which keep their proportions.
    keeps_proportions: bool = False
    #: The adapters that an item can choose.
    adapters: tuple[AdapterInfo, ...] = ()
    image_backend: ImageBackend = "pil"


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """The engine process and its models."""

    pid: int
    models: tuple[ModelInfo, ...]

    def model_for(self, task: str) -> ModelInfo | None:
        """Return the model that offers a task, or None."""
        return next((model for model in self.models if task in model.tasks), None)

    @property
    def tasks(self) -> list[str]:
        """The tasks that the models offer."""
        return sorted({task for model in self.models for task in model.tasks})


@dataclass(frozen=True, slots=True)
class Rows:
    """Requests of a consumer; their ids are the consumer's own."""

    requests: list[Request]


@dataclass(frozen=True, slots=True)
class Cancel:
    """A cancellation of requests; each still gets its one answer."""

    ids: list[int]


@dataclass(frozen=True, slots=True)
class FeatureQuery:
    """A query for the images whose features for a task are cached, so they need no pixels."""

    token: int
    hashes: list[str]
    task: str


@dataclass(frozen=True, slots=True)
class StatsQuery:
    """A query for the engine's statistics."""

    token: int


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a query: a set of hashes, or the statistics."""

    token: int
    value: Any


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to requests."""

    answers: list[Answer]


@dataclass(frozen=True, slots=True)
class PartialTexts:
    """Beginnings of the texts of requests that stream, by id."""

    texts: dict[int, str]


def unknown_adapter(name: str, known: Sequence[AdapterInfo]) -> str | None:
    """Return the error of a name that is not known as one sentence, or None."""
    names = [info.name for info in known]
    if not name or name in names:
        return None
    offered = f"its adapters are {', '.join(names)}" if names else "it has no named adapters"
    return f"adapter: {name!r} is unknown to this worker's model; {offered}."


def disconnect(connection: Connection[Any, Any]) -> None:
    """Shut down a connection that another thread reads, which receives EOF and closes it.

    Closing it here would leave that thread blocked, on a descriptor that may be reused.
    """
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The connection is already closed.
        return


def private_dir(path: Path) -> Path:
    """Create a directory for only this user. Raises PermissionError if others can access it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(
            f"{path} must be accessible only to user {os.getuid()} (mode 0700): "
            "set BLIPLINE_RUN_DIR to a private directory"
        )
    return path


def acquire_lock(path: Path) -> TextIOWrapper | None:
    """Lock a file until it is closed or the process ends; return None if it is locked."""
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def socket_path(run_dir: Path) -> Path:
    """Return the socket path of a directory's engine. Raises OSError if it is too long."""
    path = run_dir / "engine.sock"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise OSError(f"{path} is too long for a Unix socket: set a shorter BLIPLINE_RUN_DIR")
    return path
