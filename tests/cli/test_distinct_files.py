"""No command replaces a file that it reads, or writes two outputs to one file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.annotate.sample_collections import write_image

DATASET = '[{"image": "000000000001.jpg", "caption": ["a cat"]}]'
ANSWERS = '{"annotations": [{"question_id": 1, "answers": [{"answer": "a"}]}]}'
QUESTIONS = '{"questions": [{"question_id": 1, "image_id": 1, "question": "what?"}]}'
LINE = '{"image": "p/0.png", "text": "a cat", "label": true, "custom_id": "1"}\n'
FILES = {
    "a.jsonl": LINE,
    "b.jsonl": LINE,
    "a.csv": "image,text\np/0.png,a cat\n",
    "shard-000000.tar": "",
    "dataset.json": DATASET,
    "answers.json": ANSWERS,
    "questions.json": QUESTIONS,
}
#: The command, and a file that it reads; FILE is an output by another name of that file.
READ = [
    (["sheet", "a.jsonl", "-o", "FILE"], "a.jsonl"),
    (["sheet", "a.jsonl", "--items", "b.jsonl", "-o", "FILE"], "b.jsonl"),
    (["compare", "a.jsonl", "b.jsonl", "-o", "FILE"], "a.jsonl"),
    (["compare", "a.jsonl", "b.jsonl", "-o", "FILE"], "b.jsonl"),
    (["evaluate", "items", "dataset.json", "-o", "FILE"], "dataset.json"),
    (["evaluate", "captions", "dataset.json", "a.jsonl", "--each", "FILE"], "a.jsonl"),
    (["evaluate", "captions", "dataset.json", "a.jsonl", "--each", "FILE"], "dataset.json"),
    (["evaluate", "vqa", "answers.json", "a.jsonl", "--each", "FILE"], "answers.json"),
    (["batch", "submit", "a.jsonl", "--wait", "-o", "FILE"], "a.jsonl"),
    (["capfilt", "a.jsonl", "-o", "FILE"], "a.jsonl"),
    (["capfilt", "a.jsonl", "-o", "x.jsonl", "--rejected", "FILE"], "a.jsonl"),
    (["capfilt", "a.jsonl", "--calibrate", "b.jsonl", "-o", "FILE"], "b.jsonl"),
    (["search", "--image", "p/0.png", "--html", "FILE"], "p/0.png"),
    (["search", "a cat", "--html", "FILE"], ".blipline-index/index.db"),
    (["annotate", "a.jsonl", "-o", "FILE", "--format", "jsonl"], "a.jsonl"),
    (["annotate", "a.csv", "-o", "FILE", "--format", "csv"], "a.csv"),
    (["annotate", "b.jsonl", "a.jsonl", "-o", "FILE", "--format", "kohya"], "a.jsonl"),
    (["annotate", "a.jsonl", "-o", "x.jsonl", "--errors", "FILE"], "a.jsonl"),
    (["annotate", "a.jsonl", "-o", "x.jsonl", "--journal", "FILE"], "a.jsonl"),
    (["annotate", "p", "-o", "x.jsonl", "--errors", "FILE"], "p/0.png"),
    (["annotate", "p", "-o", "x.jsonl", "--journal", "FILE"], "p/0.png"),
]
TWICE = [
    ["capfilt", "a.jsonl", "-o", "x", "--rejected", "./x"],
    ["annotate", "p", "-o", "x.jsonl", "--errors", "./x.jsonl"],
    ["annotate", "p", "-o", "x.jsonl", "--journal", "./x.jsonl"],
    ["annotate", "p", "-o", "x.jsonl", "--journal", "j.db", "--errors", "./j.db"],
]


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    for name, text in FILES.items():
        Path(name).write_text(text)
    write_image(tmp_path / "p" / "0.png", 0)
    Path(".blipline-index").mkdir()
    Path(".blipline-index", "index.db").write_bytes(b"an index")


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["same", "other spelling", "symbolic link", "hard link"])
@pytest.mark.parametrize(("command", "file"), READ, ids=str)
def test_a_file_that_is_read_is_not_replaced(
    command: list[str], file: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = {"same": file, "other spelling": f"p/../{file}"}.get(name, "p/linked.png")
    if name == "symbolic link":
        os.symlink(os.path.abspath(file), output)
    elif name == "hard link":
        os.link(file, output)
    before = contents()
    code = run([output if word == "FILE" else word for word in command])
    message = capsys.readouterr().err
    assert code == Exit.USAGE, message
    assert output in message
    assert "choose another" in message
    assert contents() == before


@pytest.mark.parametrize("command", TWICE, ids=" ".join)
def test_two_outputs_are_two_files(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = contents()
    assert run(command) == Exit.USAGE
    assert "same file" in capsys.readouterr().err
    assert contents() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["p", "--embed", "-o", "p"], "--in-place"),
        (["p", "--embed", "-o", "p/copies"], "--in-place"),
        (["shard-000000.tar", "-o", "shard-%06d.tar"], "name of a shard"),
    ],
)
def test_copies_and_shards_are_no_source(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents()
    assert run(["annotate", *arguments]) == Exit.USAGE
    assert message in capsys.readouterr().err
    assert contents() == before


def test_an_embedded_copy_is_not_the_image_of_a_list(
    capsys: pytest.CaptureFixture[str], workers: None
) -> None:
    Path("list.jsonl").write_text(json.dumps({"image": "p/0.png"}))
    image = Path("p/0.png").read_bytes()
    assert run(["annotate", "list.jsonl", "--embed", "-o", "."]) == Exit.SOME_FAILED
    assert "1 failed" in capsys.readouterr().err
    assert Path("p/0.png").read_bytes() == image
