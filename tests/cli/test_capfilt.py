"""`blipline capfilt`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.contract import Queue
from producer.ledger.ledger import Ledger
from tests.cli.capfilt_runs import CHECKPOINT, kill_after_the_first_part, wait_until
from tests.cli.shell import PROGRAM, URL, json_lines

#: Pairs of a run with three parts.
MANY = 4500


def write_pairs(name: str, *pairs: dict[str, Any]) -> str:
    """Write pairs about one image; the workers' probability is the number of a text."""
    Path(name).write_text("".join(json.dumps({"image": URL} | pair) + "\n" for pair in pairs))
    return name


def read(name: str) -> list[Any]:
    return json_lines(Path(name).read_text())


def labelled() -> str:
    scores = [(f"right {n}", True) for n in (95, 90, 80, 60)]
    scores += [(f"wrong {n}", False) for n in (70, 20, 10)]
    pairs: list[dict[str, Any]] = [{"text": text, "label": label} for text, label in scores]
    return write_pairs("labelled.jsonl", *pairs)


@pytest.mark.usefixtures("workers")
def test_accepted_rejected_and_failed_pairs_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    broken = {"image": "broken.jpg", "text": "a 99"}
    pairs = write_pairs(
        "pairs.jsonl", {"text": "a 50", "label": True}, {"text": "b 49", "custom_id": "x"}, broken
    )
    command = ["capfilt", pairs, "-o", "accepted.jsonl", "--rejected", "rejected.jsonl"]
    assert run(command) == Exit.SOME_FAILED
    synthetic = {"text": "synthetic 0", "source": "synthetic", "probability": 0.75, "cosine": 0.25}
    assert read("accepted.jsonl") == [
        {
            "image": URL,
            "text": "a 50",
            "source": "web",
            "probability": 0.5,
            "cosine": 0.25,
            "custom_id": "1",
            "label": True,
        },
        {"image": URL, **synthetic, "custom_id": "1"},
        {"image": URL, **synthetic, "custom_id": "x"},
    ]
    rejected, failed = read("rejected.jsonl")
    assert (rejected["text"], rejected["probability"]) == ("b 49", 0.49)
    assert (failed["text"], failed["error"]["code"]) == ("a 99", "image_unreachable")
    out, err = capsys.readouterr()
    assert "accepted 1 of 2 web texts\naccepted 2 of 2 synthetic captions\n" in out
    assert "precision 100.0%, recall 100.0% of 1 labelled text" in out
    assert "1 of 3 pairs failed" in err
    assert not CHECKPOINT.parent.exists()


@pytest.mark.usefixtures("workers")
def test_csv_is_read_by_its_name_and_options_select_texts() -> None:
    Path("pairs.csv").write_text(f"image,text\n{URL},a 80\n{URL},b 70\n")
    command = [
        "capfilt",
        "pairs.csv",
        "-o",
        "accepted.jsonl",
        "--captions",
        "0",
        "--threshold",
        "0.8",
    ]
    assert run(command) == Exit.OK
    assert [line["text"] for line in read("accepted.jsonl")] == ["a 80"]


@pytest.mark.usefixtures("workers")
def test_calibration_picks_the_threshold_for_the_wanted_precision(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["capfilt", "--calibrate", labelled(), "--precision", "0.8"]) == Exit.OK
    expected = "threshold 0.4: precision 80.0%, recall 100.0% of 7 labelled pairs\n"
    assert capsys.readouterr().out == expected
    assert run(["capfilt", "--calibrate", labelled(), "--precision", "1", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["calibration"]["threshold"] == 0.75
    pairs = write_pairs("pairs.jsonl", {"text": "a 76"}, {"text": "b 74"})
    command = ["capfilt", pairs, "-o", "accepted.jsonl", "--captions", "0", "--precision", "1"]
    assert run([*command, "--calibrate", labelled(), "--report", "report"]) == Exit.OK
    assert [line["text"] for line in read("accepted.jsonl")] == ["a 76"]
    assert sorted(path.name for path in Path("report").iterdir()) == [
        "closest.html",
        "histogram.png",
        "report.json",
    ]


@pytest.mark.usefixtures("workers")
def test_a_calibration_that_cannot_succeed_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = write_pairs("l.jsonl", {"text": "a 90", "label": False}, {"text": "b 8", "label": True})
    assert run(["capfilt", "--calibrate", pairs]) == Exit.USAGE
    assert "the highest is 0.5000" in capsys.readouterr().err
    assert run(["capfilt", "--calibrate", write_pairs("l.jsonl", {"text": "a 90"})]) == Exit.USAGE
    assert "label" in capsys.readouterr().err


def test_a_killed_run_resumes_and_writes_each_pair_once(
    connection: redis.Redis,
    answer_chunk: Callable[[], bool],
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs = write_pairs("pairs.jsonl", *({"text": f"t{n} {n % 100}"} for n in range(MANY)))
    command = ["capfilt", pairs, "-o", "accepted.jsonl", "--rejected", "rejected.jsonl"]
    Path("accepted.jsonl").write_text("an earlier output\n")
    kill_after_the_first_part(command, answer_chunk, chunks_after=8)
    assert Path("accepted.jsonl").read_text() == "an earlier output\n"
    # Another file or other options do not continue this run
    for count in (MANY, 5):
        different = write_pairs("other.jsonl", *({"text": f"u {n % 100}"} for n in range(count)))
        assert run(["capfilt", different, *command[2:]]) == Exit.USAGE
        assert "not those of the interrupted run" in capsys.readouterr().err
    assert run([*command, "--seed", "3"]) == Exit.USAGE
    assert "other options" in capsys.readouterr().err
    request.getfixturevalue("workers")
    assert run(command) == Exit.OK
    assert "resumes after 2,048 pairs" in capsys.readouterr().err
    lines = [*read("accepted.jsonl"), *read("rejected.jsonl")]
    texts = [line["text"] for line in lines if line["source"] == "web"]
    assert sorted(texts) == sorted(f"t{n} {n % 100}" for n in range(MANY))
    assert sum(line["source"] == "synthetic" for line in lines) == MANY
    # Redis keeps nothing of a finished run
    assert not list(connection.scan_iter("*capfilt*"))
    assert Ledger(connection).depth().items[Queue.BULK] == 0


def test_invalid_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = write_pairs("pairs.jsonl", {"text": "a 1"})
    for arguments, message in (
        ([], "name a SOURCE of pairs"),
        ([pairs], "belong together"),
        ([pairs, "-o", "-"], "name files"),
        ([pairs, "-o", "accepted.jsonl", "-0"], "add the source -"),
        (["-o", "accepted.jsonl", "--calibrate", pairs], "belong together"),
        (["--calibrate", pairs, "--report", "r"], "need a SOURCE"),
        ([pairs, "-o", "x", "--rejected", "x"], "same file"),
        ([pairs, "-o", "x", "--threshold", "2"], "--threshold"),
        (["missing.jsonl", "-o", "x"], "missing.jsonl"),
        ([pairs, "-o", "no/such/dir"], "cannot be written"),
        ([pairs, "-o", "/dev/null"], "not a regular file"),
        ([pairs, "-o", "x", "--top-p", "0"], "--top-p"),
    ):
        assert run(["capfilt", *arguments]) == Exit.USAGE, arguments
        assert message in capsys.readouterr().err
    Path("pairs.csv").write_text("a,b\n")
    assert run(["capfilt", "pairs.csv", "-o", "x"]) == Exit.USAGE
    assert (
        "pairs.csv: no column with an image: name one with --image-column; columns: a, b"
        in capsys.readouterr().err
    )


def test_two_runs_do_not_write_one_output(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = write_pairs("pairs.jsonl", {"text": "a 1"})
    command = ["capfilt", pairs, "-o", "accepted.jsonl"]
    process = subprocess.Popen([*PROGRAM, *command])
    try:
        wait_until(CHECKPOINT.exists)
        assert run(command) == Exit.USAGE
        assert "another process is writing it" in capsys.readouterr().err
    finally:
        process.kill()
        process.wait()
