"""Failed images of `annotate` and `capfilt`: the first ones are named, with their reasons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from producer.annotate.summary import RunCounts
from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.contract import ErrorCode
from tests.cli.shell import URL


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the warnings, without the program's name."""
    err = capsys.readouterr().err
    prefix = "blipline: "
    return [line.removeprefix(prefix) for line in err.splitlines() if line.startswith(prefix)]


def write_pairs(broken: int) -> str:
    """Write one good pair and broken ones, which the workers reject."""
    names = [URL, *(f"https://example.com/{n}-broken.jpg" for n in range(broken))]
    lines = [json.dumps({"image": name, "text": "a 60"}) + "\n" for name in names]
    Path("pairs.jsonl").write_text("".join(lines))
    return "pairs.jsonl"


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("broken", [2, 5])
@pytest.mark.parametrize(
    ("command", "listing"),
    [
        ("annotate pairs.jsonl -o out.jsonl --existing overwrite", "--errors FILE"),
        (
            "annotate pairs.jsonl -o out.jsonl --existing overwrite --errors errors.jsonl",
            "errors.jsonl",
        ),
        ("capfilt pairs.jsonl -o out.jsonl", "--rejected FILE"),
        ("capfilt pairs.jsonl -o out.jsonl --rejected rejected.jsonl", "rejected.jsonl"),
    ],
)
def test_the_first_failures_have_a_line_and_the_others_a_number(
    capsys: pytest.CaptureFixture[str], command: str, listing: str, broken: int
) -> None:
    write_pairs(broken)
    assert run(command.split()) == Exit.SOME_FAILED
    lines = warnings(capsys)
    for number in range(min(broken, 3)):
        assert lines[number].startswith(f"https://example.com/{number}-broken.jpg: ")
        assert lines[number].endswith("(image_invalid)")
    rest = [f"and {broken - 3} more failed: {listing} lists them"] if broken > 3 else []
    assert [line for line in lines if line.startswith("and ")] == rest


@pytest.mark.parametrize(
    ("codes", "can_retry"),
    [
        ([ErrorCode.IMAGE_INVALID], False),
        ([ErrorCode.PROMPT_TOO_LONG, ErrorCode.OPTION_INVALID], False),
        (["banned_phrase"], False),
        ([ErrorCode.IMAGE_INVALID, ErrorCode.IMAGE_UNREACHABLE], True),
        ([ErrorCode.ENGINE_UNAVAILABLE], True),
        ([ErrorCode.IMAGE_TOO_LARGE], True),
        ([], False),
    ],
)
def test_a_retry_is_suggested_for_errors_that_it_can_mend(
    codes: list[str], can_retry: bool
) -> None:
    counts = RunCounts()
    for code in codes:
        counts.fail(code)
    assert counts.can_retry is can_retry


@pytest.mark.usefixtures("workers")
def test_the_summary_suggests_a_retry_where_it_can_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    suggestion = "--retry-failed tries the failed images again"
    assert (
        run(["annotate", write_pairs(1), "-o", "out.jsonl", "--existing", "overwrite"])
        == Exit.SOME_FAILED
    )
    assert suggestion not in warnings(capsys)
    Path("missing.txt").write_text("missing.jpg\n")
    assert run(["annotate", "missing.txt", "-o", "other.jsonl"]) == Exit.SOME_FAILED
    assert suggestion in warnings(capsys)
