"""`python -m worker health`: the states that are healthy, and the imports of the command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.run_dirs import default_parent
from demo.stack import ROOT
from worker import health
from worker.processes import process_list
from worker.processes.lifeline import READY, STOPPING
from worker.processes.process_list import ProcessEntry

SILENCE_S = 100.0
ENTRY = ProcessEntry("bulk", "bulk.state", SILENCE_S)
#: Silence that a supervisor would long have ended.
LONG_S = SILENCE_S + health.SUPERVISOR_SILENCE_S + 60
#: Packages that take longer to import than a check may take.
SLOW = {"celery", "kombu", "torch", "redis", "pydantic", "transformers"}
SLOW.add("worker.processes.supervisor")


@pytest.fixture
def gone() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """Return the run directory of a supervisor, this process, with a single child."""
    process_list.write(tmp_path, [ENTRY])
    yield tmp_path
    process_list.remove(tmp_path)


def report(run_dir: Path, state: str, age_s: float = 0.0, pid: int | None = None) -> None:
    file = run_dir / ENTRY.state_file
    file.write_text(f"{pid or os.getpid()} {state}")
    os.utime(file, (time.time() - age_s,) * 2)


def exit_codes(run_dir: Path) -> tuple[int, int]:
    """Return the exit codes of readiness and liveness."""
    where = ["--run-dir", str(run_dir)]
    return health.main([*where, "--ready"]), health.main([*where, "--live"])


@pytest.mark.parametrize(
    ("state", "age_s", "expected"),
    [
        (READY, 1.0, (0, 0)),
        # A long model step: the supervisor does not count it as hung
        (READY, SILENCE_S - 5, (0, 0)),
        # The supervisor has time to restart it
        (READY, SILENCE_S + 5, (1, 0)),
        (READY, LONG_S, (1, 1)),
        ("not consuming bulk", 1.0, (1, 0)),
        ("not consuming bulk", health.SUPERVISOR_SILENCE_S + 5, (1, 1)),
        # The running jobs of a consumer that stops may take any time
        (STOPPING, LONG_S, (1, 0)),
    ],
)
def test_health_follows_from_state_and_heartbeat(
    run_dir: Path, state: str, age_s: float, expected: tuple[int, int]
) -> None:
    report(run_dir, state, age_s)
    assert exit_codes(run_dir) == expected


def test_a_process_that_starts_or_has_died_is_not_ready_but_live(run_dir: Path, gone: int) -> None:
    assert exit_codes(run_dir) == (1, 0)
    report(run_dir, READY, pid=gone)
    assert exit_codes(run_dir) == (1, 0)


def test_a_supervisor_that_hangs_or_is_gone_is_not_live(
    run_dir: Path, gone: int, capsys: pytest.CaptureFixture[str]
) -> None:
    report(run_dir, READY)
    file = run_dir / process_list.FILE_NAME
    os.utime(file, (time.time() - health.SUPERVISOR_SILENCE_S - 5,) * 2)
    assert exit_codes(run_dir) == (1, 1)
    assert "hangs" in capsys.readouterr().out
    file.write_text(file.read_text().replace(str(os.getpid()), str(gone)))
    assert exit_codes(run_dir) == (1, 1)
    assert f"does not run in {run_dir}" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"pid": 1, "processes": [{}]}', "\0\xff"])
def test_a_damaged_list_is_reported_without_a_traceback(tmp_path: Path, content: str) -> None:
    (tmp_path / process_list.FILE_NAME).write_text(content)
    assert exit_codes(tmp_path) == (1, 1)


def test_each_process_of_a_tree_below_has_a_line(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = run_dir / "cuda-1"
    tree.mkdir()
    entry = ProcessEntry("cuda:1", "cuda-1.state", SILENCE_S, "cuda-1")
    process_list.write(run_dir, [entry])
    # Its supervisor has not started
    assert exit_codes(run_dir) == (1, 0)
    (run_dir / entry.state_file).write_text(f"{os.getpid()} {READY}")
    process_list.write(tree, [ENTRY])
    report(tree, READY)
    capsys.readouterr()
    assert exit_codes(run_dir) == (0, 0)
    lines = capsys.readouterr().out.splitlines()[:3]
    assert [line[:20].rstrip() for line in lines] == ["supervisor", "cuda:1", "cuda:1 bulk"]
    report(tree, READY, LONG_S)
    assert exit_codes(run_dir) == (1, 1)


def test_a_supervisor_that_does_not_know_its_processes_yet_is_not_ready(run_dir: Path) -> None:
    process_list.write(run_dir, [])
    assert exit_codes(run_dir) == (1, 0)


def test_the_directory_of_the_only_worker_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BLIPLINE_RUN_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert health.main([]) == health.EXIT_UNKNOWN
    assert "no worker runs in" in capsys.readouterr().err
    for name in ("first", "second"):
        directory = default_parent() / name
        directory.mkdir(parents=True)
        process_list.write(directory, [ENTRY])
        report(directory, READY)
        code = health.main([])
        assert code == (0 if name == "first" else health.EXIT_UNKNOWN)
    assert str(default_parent() / "second") in capsys.readouterr().err


def test_the_command_imports_nothing_slow(run_dir: Path) -> None:
    report(run_dir, READY)
    program = (
        "import sys, runpy, atexit\n"
        f"atexit.register(lambda: print('slow:', {SLOW} & set(sys.modules)))\n"
        "sys.argv = ['worker', 'health']\n"
        "runpy.run_module('worker', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "BLIPLINE_RUN_DIR": str(run_dir)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "slow: set()" in done.stdout
