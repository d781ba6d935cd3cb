"""Options with which each item would fail are usage errors, before a worker or Redis is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.cli.shell import URL

#: Commands that generate texts, with the end of their error for several greedy texts.
GREEDY = "num_return_sequences needs sampling"
COMMANDS = {
    "caption cat.jpg": GREEDY,
    "ask cat.jpg why?": GREEDY,
    "chat cat.jpg why?": GREEDY,
    "batch submit items.jsonl": GREEDY,
    "describe cat.jpg": "No such option",
    "annotate photos": "No such option",
    "capfilt items.jsonl -o x": "No such option",
}


@pytest.fixture(autouse=True)
def files(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the files of the commands, which reach no Redis."""
    monkeypatch.setenv("BLIPLINE_REDIS_URL", "redis://127.0.0.1:1/0")
    Path("photos").mkdir()
    Image.new("RGB", (8, 8)).save("photos/a.png")
    Image.new("RGB", (8, 8)).save("cat.jpg")
    Path("items.jsonl").write_text(json.dumps({"image": "cat.jpg", "text": "a cat"}) + "\n")
    Path("rows.csv").write_text(f"image,title\n{URL},Cats\n")
    pair = {"image": URL, "text": "a cat", "label": True}
    Path("labelled.jsonl").write_text(json.dumps(pair) + "\n")
    Path("urls.csv").write_text(f"image,text,title\n{URL},a cat,Cats\n")


@pytest.mark.parametrize(("command", "message"), COMMANDS.items())
def test_several_texts_of_a_greedy_search_are_refused(
    capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    assert run([*command.split(), "--num-return-sequences", "3"]) == Exit.USAGE
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--min-new-tokens 30", "min_new_tokens exceeds max_new_tokens"),
        ("--temperature 0.001", "temperature=0.001"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    capsys: pytest.CaptureFixture[str], command: str, options: str, message: str
) -> None:
    assert run([*command.split(), *options.split()]) == Exit.USAGE
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("ask cat.jpg why? --answer yes --temperature 1", "answers are ranked, not generated"),
        ("annotate photos --min-length 50 --max-length 10", "min_length exceeds max_length"),
        ("annotate photos --task describe --max-length 40", "the task describe does not accept it"),
        ("batch submit items.jsonl --task describe --output-scores", "the task describe does not"),
        ("annotate photos --output-scores", "No such option"),
        ("annotate urls.csv", f"{URL}: no folder is beside this image: choose an output with -o"),
        (f"annotate {URL}", "no folder is beside this image"),
        ("annotate urls.csv -o x.jsonl --prefix {nope}:", "{nope}: no column of the first 1 rec"),
        ("annotate urls.csv -o x.jsonl --suffix {nope}", "columns: text, title"),
        ("capfilt urls.csv -o x --label-column foo", "no column foo: name that of the labels"),
        ("capfilt --calibrate urls.csv", "urls.csv: no column label"),
        ("capfilt --calibrate urls.csv --threshold 0.5", "omit --threshold"),
        *(
            (f"capfilt urls.csv {option} {name}", f"{name}: JSON lines are written")
            for name in ("x.csv", "x.parquet", "x.TSV", "x.tar")
            for option in ("-o", "-o x --rejected")
        ),
        ("index missing --index .x", "missing: no such file or folder"),
        ("index --index .x", "has no sources yet"),
    ],
)
def test_each_other_member_is_refused(
    capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    assert run(command.split()) == Exit.USAGE
    assert message in capsys.readouterr().err
    assert [path.name for path in Path().glob(".*")] == []


@pytest.mark.parametrize(
    "command",
    ["capfilt urls.csv -o x", "capfilt --calibrate labelled.jsonl", "index photos --index .x"],
)
def test_an_unreachable_redis_leaves_nothing(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    before = set(Path().iterdir())
    assert run(command.split()) == Exit.NO_REDIS
    assert set(Path().iterdir()) == before
    err = capsys.readouterr().err
    assert "`make up` in a checkout" in err
    assert "`python -m worker`" in err


def test_a_later_source_that_is_invalid_leaves_no_workspace(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BLIPLINE_REDIS_URL", redis_url)
    before = set(Path().iterdir())
    assert run(["capfilt", "urls.csv", "rows.csv", "-o", "x"]) == Exit.USAGE
    assert "rows.csv: no column with a text" in capsys.readouterr().err
    assert set(Path().iterdir()) == before
    # Beyond the first records, the run itself finds it.
    rows = "".join(f"{URL},a cat {n}\n" for n in range(150))
    Path("rows.csv").write_text(f'image,text\n{rows}"{URL}')
    assert run(["capfilt", "rows.csv", "-o", "x"]) == Exit.USAGE
    assert "not CSV" in capsys.readouterr().err
    assert set(Path().iterdir()) == before


def test_an_item_with_options_of_its_own_is_for_the_worker_to_judge() -> None:
    item = {"image": URL, "options": {"num_beams": 4}}
    Path("items.jsonl").write_text(json.dumps(item) + "\n")
    command = ["batch", "submit", "items.jsonl", "--num-return-sequences", "3"]
    assert run(command) == Exit.NO_REDIS
