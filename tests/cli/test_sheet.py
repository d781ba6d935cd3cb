"""`blipline sheet` and `blipline compare`."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.cli.shell import write_lines


def test_a_sheet_is_named_after_its_output(capsys: pytest.CaptureFixture[str]) -> None:
    write_lines({"file_name": "gone.jpg", "text": "a cat"})
    assert run(["sheet", "items.jsonl"]) == Exit.OK
    assert "a cat" in Path("items.html").read_text()
    message = capsys.readouterr().err
    assert "items.html: 1 images" in message
    assert "1 of them without a thumbnail, the first: no file of this name" in message


def test_a_sheet_without_images_names_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    write_lines({"custom_id": "1", "text": "a cat"})
    assert run(["sheet", "items.jsonl"]) == Exit.OK
    assert "--items names the file that was submitted" in capsys.readouterr().err


def test_a_comparison_prints_its_counts(capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("a", "a cat"), ("b", "a dog")):
        Path(write_lines({"image": "x.jpg", "text": text}, {"image": "y.jpg", "text": "z"})).rename(
            f"{name}.jsonl"
        )
    assert run(["compare", "a.jsonl", "b.jsonl"]) == Exit.OK
    counts = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert counts == {"same": "1", "different": "1", "error": "0", "first": "0", "second": "0"}
    assert Path("compare.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sheet", "missing.jsonl"], "missing.jsonl"),
        (["sheet", "items.jsonl", "-o", "no/such/folder.html"], "cannot be written"),
        (["sheet", "items.jsonl", "--items", "missing.jsonl"], "missing.jsonl: cannot be read"),
    ],
)
def test_a_wrong_file_is_named_and_no_page_remains(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    write_lines({"file_name": "gone.jpg", "text": "a cat"})
    assert run(arguments) == Exit.USAGE
    assert message in capsys.readouterr().err
    assert list(Path().glob("*.html")) == []
