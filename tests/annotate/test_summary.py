"""The lines of the summary: captions of an earlier run, and names of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.cli.exit_codes import Exit
from tests.annotate.sample_collections import annotate, json_lines, write_image

pytestmark = pytest.mark.usefixtures("responder")


def test_captions_of_other_options_are_those_of_an_earlier_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [write_image(tmp_path / "p" / f"{n}.ppm", n) for n in range(2)]
    for options in ((), ("--prompt", "x")):
        capsys.readouterr()
        assert annotate("p", "-o", "out.jsonl", *options) == Exit.OK
    message = capsys.readouterr().err
    assert "2 keep the captions of an earlier run (--existing)" in message
    assert "skipped" not in message
    assert [row["text"] for row in json_lines(Path("out.jsonl"))] == texts


def test_the_summary_says_which_caption_file_keeps_the_suffix_of_its_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(("cat.jpg", "cat.png", "dog.png")):
        write_image(tmp_path / "p" / name, seed)
    assert annotate("p") == Exit.OK
    assert sorted(path.name for path in Path("p").glob("*.txt")) == [
        *("cat.png.txt", "cat.txt", "dog.txt")
    ]
    message = capsys.readouterr().err
    assert "1 caption file named as cat.png.txt: the shorter name is that of another" in message
