"""Functions that find, signal and end the processes of a worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

#: A part of the command line of each process of a worker's tree.
ROLES: Final = {
    "supervisor": "\0-m\0worker\0",
    "engine": "\0worker.engine\0",
    "interactive": "\0-Q\0interactive\0",
    "bulk": "\0-Q\0bulk\0",
}


def processes_of(run_dir: Path, role: str = "") -> list[int]:
    """Return the processes of this run directory, orphans included."""
    mark = f"BLIPLINE_RUN_DIR={run_dir}".encode()
    return [
        pid
        for pid in _all_pids()
        if mark in _read(pid, "environ").split(b"\0")
        and ROLES.get(role, "").encode() in _read(pid, "cmdline")
        and is_alive(pid)
    ]


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    status = _read(pid, "stat").rpartition(b")")[2].split()
    return bool(status) and status[0] not in (b"Z", b"X")


def send(pids: list[int], number: int) -> list[int]:
    """Signal the processes that still exist, and return them."""
    hit = []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            hit.append(pid)
    return hit


@contextmanager
def losing_readiness(ready_file: Path, timeout_s: float) -> Iterator[None]:
    """Wait until the present ready file is removed, even if there is another one by then."""
    with ready_file.open() as file:
        yield
        if not holds(lambda: not os.fstat(file.fileno()).st_nlink, timeout_s):
            raise TimeoutError(f"{ready_file} exists for {timeout_s:g} s")


def end_all(run_dir: Path, patience_s: float) -> None:
    """End the remaining processes of a worker: SIGCONT, SIGTERM, then SIGKILL."""
    send(processes_of(run_dir), signal.SIGCONT)
    send(processes_of(run_dir, "supervisor"), signal.SIGTERM)
    if not holds(lambda: not processes_of(run_dir), patience_s):
        send(processes_of(run_dir), signal.SIGKILL)
        holds(lambda: not processes_of(run_dir), patience_s)


def holds(condition: Callable[[], bool], timeout_s: float, pause_s: float = 0.05) -> bool:
    """Wait until the condition holds; return whether it did in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
    return True


def _all_pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
