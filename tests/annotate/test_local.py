"""A Redis and a worker of the command's own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from producer.cli.exit_codes import Exit
from tests.annotate.sample_collections import annotate, captions, write_image
from tests.cli.shell import PROGRAM


def descendants(process: int) -> set[int]:
    """Return the ids of all processes below a process (Linux)."""
    children = set()
    for task in Path(f"/proc/{process}/task").iterdir():
        children |= {int(child) for child in (task / "children").read_text().split()}
    return children.union(*map(descendants, children))


def is_running(process: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_one_command_captions_images_and_its_death_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BLIPLINE_REDIS_URL")
    # The null engine answers each image with its id, and starts without torch. A source that never
    # ends keeps the command alive until it is killed; test_killed_processes.py shows a normal end.
    process = subprocess.Popen(
        [*PROGRAM, "annotate", "-", "--model", "null"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    write_image(tmp_path / "a.png", 1)
    process.stdin.write(b"a.png\n")
    process.stdin.flush()
    deadline = time.monotonic() + 280
    while not (tmp_path / "a.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert captions(tmp_path)["a.txt"].strip()
    started = descendants(process.pid)
    assert len(started) >= 4
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()
    while any(map(is_running, started)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_worker_that_does_not_start_says_why_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    assert annotate("p", "--local", "--model", "/no/such/model") == Exit.USAGE
    starting, reason, end = capsys.readouterr().err.splitlines()
    assert starting.startswith("starting a Redis and a worker")
    assert reason.startswith("blipline: Model directory '/no/such/model' does not exist; check")
    assert end == "blipline: --local: the worker ended with exit code 2"
    # A worker that fails before it can log: its output is quoted.
    monkeypatch.setenv("BLIPLINE_PRECISION", "int3")
    assert annotate("p", "--local", "--model", "null") == Exit.USAGE
    assert "BLIPLINE_PRECISION" in capsys.readouterr().err


def test_a_missing_part_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert annotate("p", "--local") == Exit.USAGE
    assert (
        "--local starts a worker, which needs celery: `pip install '.[worker]'`"
        in capsys.readouterr().err
    )
