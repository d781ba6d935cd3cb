"""The processes of a worker's tree, and the gateway's (Linux)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from demo.stack import Worker

#: What the command line of each has in it.
ROLES: Final = {"engine": "\0worker.engine\0", "bulk": "\0-Q\0bulk\0"}


def process_of(worker: Worker, role: str) -> int:
    """Its id; raises LookupError when there is none."""
    return _process(ROLES[role], f"BLIPLINE_RUN_DIR={worker.run_dir}")


def gateway_at(port: int) -> int:
    """The id of the gateway that was started for this port; raises LookupError."""
    return _process("\0gateway\0", f"BLIPLINE_GATEWAY_PORT={port}")


def _process(command: str, variable: str) -> int:
    """The one with this in its command line, and this in its environment."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            is_it = command.encode() in Path("/proc", name, "cmdline").read_bytes()
            environment = Path("/proc", name, "environ").read_bytes().split(b"\0")
            if is_it and variable.encode() in environment:
                return int(name)
        except OSError:
            continue
    raise LookupError(f"no process has {command!r} in its command line, and {variable}")


def cpu_s(process: int) -> float:
    """Seconds of processor time that a process has had."""
    stat = Path(f"/proc/{process}/stat").read_text()
    # The name, in parentheses, may have spaces in it.
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
