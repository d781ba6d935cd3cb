"""Closed standard streams, a standard input that stays open, and Ctrl-C during the imports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from producer.cli.exit_codes import Exit
from tests.annotate.sample_collections import write_image
from tests.cli.shell import PROGRAM

#: Sends Ctrl-C to its own process when the program is imported.
INTERRUPTED = """
import os, signal, sys
import producer.cli

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "producer.cli.app":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
producer.cli.main()
"""
COMMANDS = [
    (["status"], True),
    (["evaluate", "items", "dataset.json"], True),
    (["--help"], True),
    (["compare", "a.jsonl", "a.jsonl", "-o", "x.html"], True),
    (["sheet", "a.jsonl", "-o", "x.html"], False),
]
#: The first command with each set of streams closed, and each other with the first set, are enough
#: for every run.
MEMBERS = [
    pytest.param(
        command,
        prints,
        closed,
        marks=[pytest.mark.exhaustive] if command_number and streams_number else [],
        id=f"{command[0]}-{closed}",
    )
    for command_number, (command, prints) in enumerate(COMMANDS)
    for streams_number, closed in enumerate([(1,), (2,), (0, 1, 2)])
]


def closing(*descriptors: int) -> Callable[[], None]:
    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return close


@pytest.mark.parametrize(("command", "prints", "closed"), MEMBERS)
def test_closed_streams_are_no_internal_error(
    command: list[str], prints: bool, closed: tuple[int, ...]
) -> None:
    Path("a.jsonl").write_text(json.dumps({"image": "a.png", "text": "a"}))
    Path("dataset.json").write_text('[{"image": "a.jpg", "caption": "a"}]')
    run = subprocess.run(
        [*PROGRAM, *command], capture_output=True, preexec_fn=closing(*closed), check=False
    )
    fails = prints and 1 in closed
    assert run.returncode == (Exit.USAGE if fails else Exit.OK), run.stderr
    assert b"Traceback" not in run.stderr
    if prints and 1 in closed and 2 not in closed:
        assert b"Bad file descriptor" in run.stderr


@pytest.mark.parametrize(
    ("wait_s", "code"), [(0.1, Exit.NO_REDIS), (600, -signal.SIGINT)], ids=["error", "ctrl-c"]
)
def test_a_command_ends_while_its_standard_input_is_open(wait_s: float, code: int) -> None:
    write_image(Path("a.png"), 1)
    settings = {"BLIPLINE_REDIS_URL": "redis://127.0.0.1:1", "BLIPLINE_REDIS_WAIT_S": f"{wait_s}"}
    with subprocess.Popen(
        [*PROGRAM, "annotate", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | settings,
    ) as command:
        assert command.stdin is not None
        assert command.stderr is not None
        command.stdin.write(b"a.png\n")
        command.stdin.flush()
        message = command.stderr.readline()
        if code == -signal.SIGINT:
            command.send_signal(signal.SIGINT)
        command.wait(60)
        message += command.stderr.read()
    assert command.returncode == code, message
    assert b"Fatal" not in message


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    Path("a.jsonl").write_text(json.dumps({"image": "a.png", "text": "a"}))
    # A limit on the size of files fails as a full disk does, in the middle of a write.
    command = f"trap '' XFSZ; ulimit -f 4; exec {' '.join(PROGRAM)} sheet a.jsonl -o x.html"
    run = subprocess.run(["bash", "-c", command], capture_output=True, check=False, text=True)
    assert run.returncode == Exit.USAGE
    assert f"{tmp_path}/x.html: cannot be written: File too large; choose another" in run.stderr
    assert not Path("x.html").exists()


def test_ctrl_c_during_the_imports_prints_no_traceback() -> None:
    run = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (-signal.SIGINT, b"")
