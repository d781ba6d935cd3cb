"""The processes of a worker's tree, and the gateway's (Linux)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from demo.stack import Worker

#: A part of each process's command line.
ROLES: Final = {"engine": "\0worker.engine\0", "bulk": "\0-Q\0bulk\0"}


def process_of(worker: Worker, role: str) -> int:
    """Return the id of a worker's process. Raises LookupError."""
    return _process(ROLES[role], f"BLIPLINE_RUN_DIR={worker.run_dir}")


def gateway_at(port: int) -> int:
    """Return the process id of the gateway on a port. Raises LookupError."""
    return _process("\0gateway\0", f"BLIPLINE_GATEWAY_PORT={port}")


def _process(command: str, variable: str) -> int:
    """Return the id of the process with this command line part and environment variable."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            matches = command.encode() in Path("/proc", name, "cmdline").read_bytes()
            environment = Path("/proc", name, "environ").read_bytes().split(b"\0")
            if matches and variable.encode() in environment:
                return int(name)
        except OSError:
            continue
    raise LookupError(f"no process has the command line {command!r} and {variable}")


def cpu_s(process: int) -> float:
    """Return the seconds of processor time of a process."""
    stat = Path(f"/proc/{process}/stat").read_text()
    # The name, in parentheses, may contain spaces.
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
