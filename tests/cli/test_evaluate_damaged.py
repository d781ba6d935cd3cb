"""Files of annotations and results, with each value replaced by each other kind of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.cli.app import run
from producer.cli.exit_codes import Exit

COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}],
    "annotations": [{"image_id": 1, "caption": "a cat"}],
}
KARPATHY = {
    "images": [
        {
            "filename": "a.jpg",
            "filepath": "val",
            "cocoid": 1,
            "split": "test",
            "sentences": [{"raw": "a cat"}],
        }
    ]
}
BLIP = [{"image": "000000000001.jpg", "caption": ["a cat"]}]
VQA = {
    "annotations": [
        {
            "question_id": 1,
            "answers": [{"answer": "a cat"}],
            "answer_type": "other",
            "question_type": "what",
        }
    ]
}
QUESTIONS = {"questions": [{"question_id": 1, "image_id": 1, "question": "what?"}]}
RESULT = [{"image_id": 1, "caption": "a cat", "error": None}]
VECTORS = [
    {"custom_id": "image:1", "embedding": [1.0, 0.5]},
    {"custom_id": "text:1:0", "embedding": [1.0, 0.5]},
]
MATCHES = [
    {
        "custom_id": "match:1:0",
        "matches": [{"text": "a cat", "probability": 0.5, "cosine": 0.1}],
    }
]
#: One of each kind of JSON value, with the extremes of numbers and texts.
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**400, 1.5, float("nan"), float("inf")),
    *("", "x", "\0", "e\u0301", [], [None], [[1.0]], [1.0, 2.0, 3.0], {}, {"a": 1}),
)
FILES = {"vectors.json": VECTORS, "matches.json": MATCHES, "result.json": RESULT}
OF_CAPTIONS = (
    ("evaluate", "captions", "FILE", "result.json", "--each", "each.jsonl"),
    ("evaluate", "retrieval", "FILE", "vectors.json", "--matches", "matches.json"),
    ("evaluate", "items", "FILE", "-o", "items.jsonl"),
    ("evaluate", "items", "FILE", "--task", "embed", "-o", "items.jsonl"),
    ("evaluate", "items", "FILE", "--task", "match", "--vectors", "vectors.json", "-o", "i.jsonl"),
)
CASES = {
    "coco": (COCO, OF_CAPTIONS),
    "karpathy": (KARPATHY, OF_CAPTIONS),
    "blip": (BLIP, OF_CAPTIONS),
    "vqa": (VQA, [("evaluate", "vqa", "FILE", "result.json", "--each", "each.jsonl")]),
    "questions": (
        QUESTIONS,
        [("evaluate", "items", "FILE", "--task", "vqa", "-o", "items.jsonl")],
    ),
    "result": (RESULT, [("evaluate", "captions", "coco.json", "FILE")]),
    "vectors": (VECTORS, [("evaluate", "retrieval", "coco.json", "FILE")]),
    "matches": (
        MATCHES,
        [("evaluate", "retrieval", "coco.json", "vectors.json", "--matches", "FILE")],
    ),
}


def damaged(value: Any) -> Iterator[Any]:
    """Yield copies with each part replaced by each value, and without each field."""
    yield from VALUES
    if isinstance(value, dict):
        for name in value:
            rest = {key: part for key, part in value.items() if key != name}
            yield rest
            yield from ({**rest, name: part} for part in damaged(value[name]))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            for part in damaged(entry):
                yield [*value[:index], part, *value[index + 1 :]]


@pytest.mark.parametrize("name", CASES)
def test_a_file_with_another_kind_of_value_is_scored_or_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value, commands = CASES[name]
    for file, content in {**FILES, "coco.json": COCO}.items():
        (tmp_path / file).write_text(json.dumps(content))
    for copy in (value, *damaged(value)):
        (tmp_path / "damaged.json").write_text(json.dumps(copy))
        for command in commands:
            code = run(["damaged.json" if word == "FILE" else word for word in command])
            message = capsys.readouterr().err
            assert code in (Exit.OK, Exit.USAGE), (command, copy, message)
            assert code == Exit.OK or "blipline: " in message, (command, copy, message)
            assert "internal error" not in message, (command, copy, message)


def test_an_image_in_several_entries_has_all_their_captions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [{"image": "a.jpg", "caption": "a cat"}, {"image": "a.jpg", "caption": "a dog"}]
    (tmp_path / "blip.json").write_text(json.dumps(entries))
    (tmp_path / "result.json").write_text('[{"image": "a.jpg", "caption": "a cat"}]')
    assert run(["evaluate", "captions", "blip.json", "result.json", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["exact_match"] == 1


def test_two_images_with_one_id_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [{"image": "a/1.jpg", "caption": "a cat"}, {"image": "b/1.jpg", "caption": "a dog"}]
    (tmp_path / "blip.json").write_text(json.dumps(entries))
    assert run(["evaluate", "items", "blip.json"]) == Exit.USAGE
    assert "a/1.jpg and b/1.jpg have the same id, 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name_format", "path"),
    [
        *(("{}.jpg", "9.jpg"), ("{:012d}.jpg", "000000000009.jpg"), ("a{:d}", "a9")),
        *((bad, None) for bad in ("", "a.jpg", "{", "{}{}", "{1}", "{x}", "{0.__class__}")),
        *((bad, None) for bad in ("{:s}", "{!r}", "{:99999999999d}", "{:{}}")),
    ],
)
def test_the_format_of_image_names_has_one_place_for_the_id(
    name_format: str, path: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = {"questions": [{"question_id": 1, "image_id": 9, "question": "what?"}]}
    (tmp_path / "q.json").write_text(json.dumps(value))
    command = ["evaluate", "items", "q.json", "--task", "vqa", "--images", ""]
    code = run([*command, "--image-name", name_format])
    output = capsys.readouterr()
    assert code == (Exit.USAGE if path is None else Exit.OK)
    if path is None:
        assert "--image-name" in output.err
    else:
        assert json.loads(output.out)["image"] == path


def test_an_image_id_that_is_no_number_does_not_fit_a_format_of_digits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = {"questions": [{"question_id": 1, "image_id": "x", "question": "what?"}]}
    (tmp_path / "q.json").write_text(json.dumps(value))
    assert run(["evaluate", "items", "q.json", "--task", "vqa"]) == Exit.USAGE
    assert "choose {} in --image-name" in capsys.readouterr().err
