"""A child is restarted when it dies, and killed when its heartbeat stops but not after a pause."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.stack import ROOT
from tests.redis_servers import wait_until
from worker.processes.child import EXIT_PERMANENT, MAX_DEATHS, MAX_ROUND_S, Child, ChildFailed
from worker.processes.lifeline import READY, STOPPING, read_report

SILENCE_S = 0.4
#: A program that reports its state once and then waits.
SILENT = (
    f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); from worker.processes import lifeline; "
)


@contextmanager
def running(tmp_path: Path, program: str, silence_s: float | None = None) -> Iterator[Child]:
    process = Child("it", [sys.executable, "-c", program], {}, tmp_path / "state", silence_s)
    try:
        yield process
    finally:
        process.end(0)


@contextmanager
def reporting(tmp_path: Path, state: str) -> Iterator[tuple[Child, int]]:
    """Run a child that has sent its last heartbeat."""
    program = f"{SILENT}lifeline.report({state!r}); time.sleep(600)"
    descriptor, _ = os.pipe()
    with running(tmp_path, program, SILENCE_S) as process:
        process.supervise(descriptor)
        wait_until(lambda: read_report(process.state_file) is not None, "the report")
        yield process, descriptor


def supervise_for(process: Child, descriptor: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        process.supervise(descriptor)
        time.sleep(0.02)


@pytest.mark.parametrize("state", [READY, "not consuming bulk"])
def test_a_child_without_a_heartbeat_is_killed(tmp_path: Path, state: str) -> None:
    with reporting(tmp_path, state) as (process, descriptor):
        assert process.ready == (state == READY)
        pid = process._process and process._process.pid
        supervise_for(process, descriptor, 2 * SILENCE_S)
        assert (process._process and process._process.pid) != pid


def test_a_child_that_finishes_its_work_is_not_killed(tmp_path: Path) -> None:
    with reporting(tmp_path, STOPPING) as (process, descriptor):
        supervise_for(process, descriptor, 3 * SILENCE_S)
        assert process.alive


def test_a_pause_of_supervisor_and_child_is_no_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f"{SILENT}lifeline.report(); time.sleep(600)"
    descriptor, _ = os.pipe()
    with running(tmp_path, program, 2 * MAX_ROUND_S) as process:
        process.supervise(descriptor)
        wait_until(lambda: process.ready, "the report")
        process.supervise(descriptor)
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 3600)
        process.supervise(descriptor)
        assert process.alive


def test_a_child_that_dies_is_restarted_with_growing_pauses(tmp_path: Path) -> None:
    descriptor, _ = os.pipe()
    with running(tmp_path, "raise SystemExit(1)") as process:
        started = time.monotonic()
        with pytest.raises(ChildFailed, match=f"it ended with exit code 1, {MAX_DEATHS} times"):
            supervise_for(process, descriptor, 120)
        assert time.monotonic() - started > sum(0.1 * 2**death for death in range(MAX_DEATHS - 1))


def test_a_child_that_cannot_work_is_not_restarted(tmp_path: Path) -> None:
    descriptor, _ = os.pipe()
    with (
        running(tmp_path, f"raise SystemExit({EXIT_PERMANENT})") as process,
        pytest.raises(ChildFailed) as raised,
    ):
        supervise_for(process, descriptor, 60)
    assert raised.value.exit_code == EXIT_PERMANENT


def test_the_report_of_a_predecessor_is_not_that_of_the_child(tmp_path: Path) -> None:
    descriptor, _ = os.pipe()
    with running(tmp_path, f"{SILENT}time.sleep(600)") as process:
        process.supervise(descriptor)
        process.state_file.write_text(f"{os.getpid()} {READY}")
        assert not process.ready
        process.signal(signal.SIGKILL)
        wait_until(lambda: not process.alive, "the end")
        supervise_for(process, descriptor, 0.5)
        assert process.alive
        assert read_report(process.state_file) is None


def test_a_later_state_replaces_the_first(tmp_path: Path) -> None:
    signalled = tmp_path / "signalled"
    program = (
        f"{SILENT}from pathlib import Path; lifeline.report('starting')\n"
        f"while not Path({str(signalled)!r}).exists(): time.sleep(0.02)\n"
        "lifeline.report(); time.sleep(600)"
    )
    descriptor, _ = os.pipe()
    with running(tmp_path, program) as process:
        process.supervise(descriptor)
        wait_until(lambda: read_report(process.state_file) is not None, "the first report")
        assert not process.ready
        signalled.touch()
        wait_until(lambda: process.ready, "the second report")
