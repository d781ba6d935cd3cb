"""Standard streams that never fail and never wait."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from worker.processes import streams
from worker.processes.streams import PIECE_BYTES, LossyStream

#: Prints in a process whose streams are protected, and exits with 7 if nothing was raised.
PROGRAM = """
import logging, os, sys
from worker.processes import streams
from worker.processes.streams import protect
protect()
logging.raiseExceptions = True
logging.basicConfig(level="INFO")
print("ready", flush=True)
logging.info("x" * 100_000)
sys.__stderr__.write("y")
# Files that are opened later are not written to.
files = {os.open(os.devnull, os.O_RDONLY) for _ in range(3)}
sys.exit(8 if files & {1, 2} else 7)
"""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def test_a_text_is_written_whole(pipe: tuple[int, int]) -> None:
    text = "é\udcff" * PIECE_BYTES
    stream = LossyStream(pipe[1])
    assert stream.write(text) == len(text)
    written = os.read(pipe[0], 1 << 20)
    assert written == text.encode(errors="backslashreplace")


def test_without_a_reader_a_text_is_dropped(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    assert LossyStream(pipe[1]).write("text") == 4


def test_a_reader_that_stands_still_is_not_waited_for(pipe: tuple[int, int]) -> None:
    stream = LossyStream(pipe[1])
    stream.write("x" * (1 << 20))
    poll = select.poll()
    poll.register(pipe[1], select.POLLOUT)
    assert not poll.poll(0)
    stream.write("dropped")
    while len(os.read(pipe[0], 1 << 20)) == 1 << 20:
        pass
    stream.write("after")
    assert os.read(pipe[0], 1 << 20).endswith(b"after")


@pytest.mark.timeout(30)
def test_only_the_first_text_waits_for_a_reader_that_stands_still(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "WAIT_MS", 0)
    stream = LossyStream(pipe[1])
    stream.write("x" * (1 << 20))
    # A further wait would not end.
    monkeypatch.setattr(streams, "WAIT_MS", 3_600_000)
    stream.write("dropped")
    stream.write("dropped")


@pytest.mark.parametrize(
    "redirection",
    ["", ">/dev/full 2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-", ">&-", "2>&-", "</dev/null"],
)
def test_a_process_ends_with_its_own_exit_code(redirection: str) -> None:
    command = ["sh", "-c", f'"{sys.executable}" -c "$PROGRAM" {redirection}']
    done = subprocess.run(
        command, env={**os.environ, "PROGRAM": PROGRAM}, capture_output=True, timeout=60
    )
    assert done.returncode == 7
    assert b"Traceback" not in done.stderr


def test_a_process_whose_reader_has_gone_ends_with_its_own_exit_code() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 7
