"""Output: files, pipes and a full disk."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import redis

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.cli.shell import PROGRAM, URL, Finish, write_lines


def test_an_output_that_cannot_be_written_is_rejected_before_the_submission(
    connection: redis.Redis,
) -> None:
    Path("directory").mkdir()
    file = write_lines({"image": URL})
    for output in ("no/such/directory/out.jsonl", "directory", "/dev/null"):
        assert run(["batch", "submit", file, "--wait", "-o", output]) == Exit.USAGE
    assert not connection.exists("bulk")
    assert Path("/dev/null").is_char_device()


def test_a_broken_pipe_ends_the_command_without_a_message(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["batch", "submit", write_lines({"image": URL})])
    batch_id = capsys.readouterr().out.strip()
    finish(f"{batch_id}:0", [{"text": "a"}])
    reading, writing = os.pipe()
    os.close(reading)
    command = [*PROGRAM, "batch", "results", batch_id]
    process = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=20)
    os.close(writing)
    assert (process.returncode, process.stderr) == (Exit.STDOUT_CLOSED, b"")


def test_a_full_disk_behind_stdout_is_reported() -> None:
    with open("/dev/full", "wb") as full:
        command = [*PROGRAM, "batch", "submit", write_lines({"image": URL})]
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=20)
    assert (process.returncode, process.stderr) == (
        2,
        b"blipline: stdout: No space left on device\n",
    )
