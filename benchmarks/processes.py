"""The processes of a worker's tree (Linux)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from demo.stack import Worker

#: What the command line of each has in it.
ROLES: Final = {"engine": "\0worker.engine\0", "bulk": "\0-Q\0bulk\0"}


def process_of(worker: Worker, role: str) -> int:
    """Its id; raises LookupError when there is none."""
    mark = f"BLIPLINE_RUN_DIR={worker.run_dir}".encode()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            is_it = ROLES[role].encode() in Path("/proc", name, "cmdline").read_bytes()
            if is_it and mark in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                return int(name)
        except OSError:
            continue
    raise LookupError(f"no {role} of the worker {worker.process.pid}")


def cpu_s(process: int) -> float:
    """Seconds of processor time that a process has had."""
    stat = Path(f"/proc/{process}/stat").read_text()
    # The name, in parentheses, may have spaces in it.
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
