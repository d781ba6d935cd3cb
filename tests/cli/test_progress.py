"""Progress without a terminal: a line at times, of each command that runs for long."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from producer.cli import progress
from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.cli.progress import ProgressLines
from tests.cli.shell import URL, submit_batch


def test_lines_have_the_count_and_a_note_or_the_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter((100.0, 105.0, 110.0, 119.0, 121.0, 140.0))
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr(progress, "time", clock)
    lines = ProgressLines("filtering")
    for count in (500, 1500, 1800, 2100):
        lines.update(count, None)
    lines.update(2500, 5000, "3 failed")
    assert capsys.readouterr().err.splitlines() == [
        "filtering: 1,500, 150/s",
        "filtering: 2,100, 100/s",
        "filtering: 2,500 of 5,000, 3 failed",
    ]


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("annotate pairs.jsonl -o out.jsonl", "annotating: "),
        ("capfilt pairs.jsonl -o out.jsonl", "filtering: 2, "),
        ("capfilt --calibrate pairs.jsonl", "calibrating: 2, "),
        ("batch submit pairs.jsonl --wait --task match", "submitting: 2, "),
        ("caption a.jpg b.jpg", "answering: 2 of 2, "),
        ("batch results ID", "waiting: 2 of 2, "),
    ],
)
def test_each_long_command_prints_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, line: str
) -> None:
    pair = {"image": URL, "text": "a 60", "texts": ["a 60"], "label": True}
    Path("pairs.jsonl").write_text(2 * (json.dumps(pair) + "\n"))
    for name in ("a.jpg", "b.jpg"):
        Path(name).write_bytes(b"image")
    batch_id = submit_batch(capsys, 2) if "ID" in command else ""
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    assert run(command.replace("ID", batch_id).split()) in (Exit.OK, Exit.SOME_FAILED)
    assert line in capsys.readouterr().err
