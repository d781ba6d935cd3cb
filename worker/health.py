"""`python -m worker health`: the state of each process of a worker, for checks of containers.

Prints a line for each process: its state and the age of its heartbeat. Exit codes: 0 healthy, 1
not, 2 the run directory is not known.

--ready (the default): every process takes work.
--live: the worker gets ready, or ready again, by itself. It fails when the supervisor is gone or
hangs, and when a process that hangs is not restarted, or a queue has no consumer. It does not fail
while a model loads, while Redis is down, or while a process that died is restarted.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config.run_dirs import default_parent
from worker.processes import process_list
from worker.processes.lifeline import READY, STOPPING, read_report
from worker.processes.process_list import ProcessEntry, ProcessList

#: Seconds without a heartbeat after which a supervisor counts as hung, and seconds that it has to
#: restart a child that hangs.
SUPERVISOR_SILENCE_S: Final = 30.0
EXIT_UNKNOWN: Final = 2


@dataclass(frozen=True)
class ProcessHealth:
    """The health of a process."""

    name: str
    state: str
    #: Seconds since its last heartbeat; None: it has sent none.
    age_s: float | None
    live: bool

    def __str__(self) -> str:
        age = "" if self.age_s is None else f"  heartbeat {self.age_s:.1f} s ago"
        return f"{self.name:<20}  {self.state}{age}"


def main(arguments: Sequence[str]) -> int:
    """Print the health of a worker's processes; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        run_dir = options.run_dir or _find_run_dir()
    except LookupError as error:
        print(f"worker health: {error}", file=sys.stderr)
        return EXIT_UNKNOWN
    processes = list(check(run_dir))
    print("\n".join(map(str, processes)))
    if options.live:
        return 0 if all(process.live for process in processes) else 1
    return 0 if all(process.state == READY for process in processes) else 1


def check(run_dir: Path) -> Iterator[ProcessHealth]:
    """Yield the health of a supervisor and of all processes below it."""
    processes = process_list.read(run_dir)
    if processes is None or not is_alive(processes.pid):
        yield ProcessHealth("supervisor", f"does not run in {run_dir}", None, live=False)
        return
    age_s = _age_s(processes.heartbeat_ns)
    live = age_s <= SUPERVISOR_SILENCE_S
    state = READY if processes.entries else "starting"
    yield ProcessHealth("supervisor", state if live else "hangs", age_s, live)
    for entry in processes.entries:
        yield _check_child(run_dir / entry.state_file, entry, entry.name)
        if entry.directory is not None:
            yield from _check_tree(run_dir / entry.directory, entry.name)


def _check_tree(run_dir: Path, name: str) -> Iterator[ProcessHealth]:
    """Yield the health of the processes below a supervisor that is a child itself."""
    processes = process_list.read(run_dir)
    for entry in () if processes is None else processes.entries:
        yield _check_child(run_dir / entry.state_file, entry, f"{name} {entry.name}")


def _check_child(state_file: Path, entry: ProcessEntry, name: str) -> ProcessHealth:
    report = read_report(state_file)
    # Its supervisor starts it, and restarts it if it has died.
    if report is None:
        return ProcessHealth(name, "starting", None, live=True)
    age_s = _age_s(report.heartbeat_ns)
    if not is_alive(report.pid):
        return ProcessHealth(name, "dead", age_s, live=True)
    if report.state not in (READY, STOPPING):
        return ProcessHealth(name, report.state, age_s, live=age_s <= SUPERVISOR_SILENCE_S)
    overdue_s = 0.0 if entry.silence_s is None else age_s - entry.silence_s
    if report.state == STOPPING or overdue_s <= 0:
        return ProcessHealth(name, report.state, age_s, live=True)
    return ProcessHealth(name, "hangs", age_s, live=overdue_s <= SUPERVISOR_SILENCE_S)


def is_alive(pid: int) -> bool:
    """Return whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _age_s(heartbeat_ns: int) -> float:
    return max(0.0, (time.time_ns() - heartbeat_ns) / 1e9)


def _find_run_dir() -> Path:
    """Return the run directory of the settings, or of this user's only worker."""
    if run_dir := os.environ.get("BLIPLINE_RUN_DIR"):
        return Path(run_dir)
    parent = default_parent()
    running = [path.parent for path in parent.glob(f"*/{process_list.FILE_NAME}")]
    running = [path for path in running if _is_running(process_list.read(path))]
    if len(running) == 1:
        return running[0]
    if not running:
        raise LookupError(
            f"no worker runs in {parent}: name its directory by --run-dir or BLIPLINE_RUN_DIR"
        )
    paths = ", ".join(map(str, sorted(running)))
    raise LookupError(f"several workers run here: choose one by --run-dir: {paths}")


def _is_running(processes: ProcessList | None) -> bool:
    return processes is not None and is_alive(processes.pid)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m worker health",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    check = parser.add_mutually_exclusive_group()
    check.add_argument("--ready", action="store_true", help="fail unless every process takes work")
    check.add_argument("--live", action="store_true", help="fail if a restart is the only remedy")
    parser.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help="run directory of the worker [BLIPLINE_RUN_DIR; default: that of the only worker]",
    )
    return parser
