"""Progress: counts, rate, time left and failures, as lines in a log and as a bar on a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from producer.annotate.summary import RunCounts
from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, write_image
from tests.cli.shell import PROGRAM

IMAGES = 200


@pytest.fixture
def slow_collection(responder: Responder, tmp_path: Path) -> None:
    """A collection whose answers take a second, with one that fails."""
    for number in range(IMAGES):
        write_image(tmp_path / "p" / f"{number}.png", number)

    def text(item: object, options: object) -> str | None:
        time.sleep(1 / IMAGES)
        return "a text" if responder.answers > 1 else None

    responder.text_of = text


@pytest.mark.parametrize(
    ("counts", "seconds", "note"),
    [
        (RunCounts(), 10, ""),
        (RunCounts(total=100), 10, ""),
        (RunCounts(total=100, failed=2), 10, "2 failed"),
        (RunCounts(done=20), 10, "2 images/s"),
        (RunCounts(total=100, done=20), 10, "2 images/s, 40 s left"),
        (RunCounts(total=100, done=20, before=30, skipped=5), 10, "2 images/s, 22 s left"),
        (RunCounts(total=100, done=20, failed=5), 10, "2 images/s, 38 s left, 5 failed"),
        (RunCounts(total=20, done=20), 10, "2 images/s, 0.0 s left"),
        # A collection that grows while it is counted.
        (RunCounts(total=10, done=20), 10, "2 images/s, 0.0 s left"),
        (RunCounts(total=12_000_000, done=12_345), 10, "1,234 images/s, 2 h 41 min left"),
    ],
)
def test_the_note_has_what_is_known(
    monkeypatch: pytest.MonkeyPatch, counts: RunCounts, seconds: float, note: str
) -> None:
    times = iter([1000.0, 1000.0 + seconds])
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr("producer.annotate.summary.time", clock)
    done, counts.done = counts.done, 0
    assert "images/s" not in counts.progress_note()
    counts.done = done
    assert counts.progress_note() == note


def check_estimates(notes: list[tuple[str, ...]]) -> None:
    """Check that there are estimates, and that each follows from its own counts and rate."""
    assert notes
    for seen, rate, time_left in notes:
        assert float(rate) * float(time_left) == pytest.approx(
            IMAGES - int(seen), rel=0.01, abs=0.5 * float(rate)
        )


@pytest.mark.usefixtures("slow_collection")
def test_a_log_gets_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("producer.cli.progress.LINE_S", 0.0)
    assert annotate("p") == Exit.SOME_FAILED
    line = rf"^annotating: (\d+) of {IMAGES}, ([\d.]+) images/s, ([\d.]+) s left, 1 failed$"
    check_estimates(re.findall(line, capsys.readouterr().err, re.MULTILINE))


@pytest.mark.usefixtures("slow_collection")
def test_a_terminal_gets_a_bar_that_disappears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal, end = os.openpty()
    with subprocess.Popen([*PROGRAM, "annotate", "p"], stderr=end) as process:
        os.close(end)
        shown = screen(terminal)
    assert process.returncode == Exit.SOME_FAILED
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)
    bar = rf"annotating [^\r\n]* (\d+)/{IMAGES} ([\d.]+) images/s, ([\d.]+) s left, 1 failed"
    check_estimates(re.findall(bar, text))
    # The line of the bar is erased before the summary, which is all that stays.
    _, erased, rest = shown.rpartition("\x1b[2K")
    assert erased
    assert "annotating" not in rest
    assert f"{IMAGES - 1} images annotated in" in rest


def screen(terminal: int) -> str:
    """Return what a program prints on a terminal, until it has ended."""
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:
        # On Linux, a terminal ends with an error once no process has it open.
        pass
    finally:
        os.close(terminal)
    return shown.decode()
