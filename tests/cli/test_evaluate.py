"""`blipline evaluate`: from a data set to items, and from results to scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.cli.shell import json_lines

DATASET = [
    {"image": "val2014/COCO_val2014_000000000001.jpg", "caption": ["A red dog.", "the dog"]},
    {"image": "val2014/COCO_val2014_000000000002.jpg", "caption": ["two cats", "Cats, two!"]},
    {"image": "val2014/COCO_val2014_000000000003.jpg", "caption": ["a bird flies"]},
]
ANNOTATIONS = {
    "annotations": [
        {
            "question_id": number,
            "answers": [{"answer": answer} for answer in answers],
            "answer_type": "other",
        }
        for number, answers in ((10, ["red"] * 9 + ["blue"]), (11, ["two"] * 2 + ["3"] * 8))
    ]
}

CAPTIONS = {"a": "a red dog on a mat", "b": "two black cats sleep"}


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    write("dataset.json", DATASET)
    write("annotations.json", ANNOTATIONS)


def write(name: str, *values: Any) -> str:
    Path(name).write_text("".join(json.dumps(value) + "\n" for value in values))
    return name


def scores(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(["evaluate", *arguments, "--json"]) == Exit.OK
    return json.loads(capsys.readouterr().out)


def test_captions_of_a_batch_are_scored(capsys: pytest.CaptureFixture[str]) -> None:
    write(
        "results.jsonl",
        {"custom_id": "1", "status": "ok", "text": "a picture of a red dog"},
        {"custom_id": "2", "status": "ok", "text": "a picture of two cats"},
        {"custom_id": "3", "status": "ok", "text": "a picture of a plane"},
    )
    values = scores(
        capsys,
        *("captions", "dataset.json", "results.jsonl"),
        *("--remove-prefix", "a picture of ", "--each", "each.jsonl"),
    )
    assert values["images"] == 3
    assert values["exact_match"] == pytest.approx(2 / 3)
    each = json_lines(Path("each.jsonl").read_text())
    assert [line["image_id"] for line in each] == [1, 2, 3]
    assert each[2]["caption"] == "a plane"


def test_scores_are_lines_with_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    write("results.json", [{"image_id": n, "caption": "two cats"} for n in (1, 2, 3)])
    assert run(["evaluate", "captions", "dataset.json", "results.json"]) == Exit.OK
    printed = capsys.readouterr()
    assert "scores as fractions" in printed.err
    lines = dict(line.split("\t") for line in printed.out.splitlines())
    assert lines["images"] == "3"
    assert set(lines) > {"Bleu_1", "Bleu_4", "ROUGE_L", "CIDEr", "exact_match"}


def test_references_are_tables_truths_and_folders_of_captions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("results.jsonl", *({"file_name": f"{n}.png", "text": t} for n, t in CAPTIONS.items()))
    write("truth.json", {f"{n}.png": {"caption": t, "questions": []} for n, t in CAPTIONS.items()})
    write("table.jsonl", *({"image": f"p/{n}.png", "texts": [t, "x"]} for n, t in CAPTIONS.items()))
    write("list.json", [{"file_name": f"{n}.png", "text": t} for n, t in CAPTIONS.items()])
    Path("table.csv").write_text(
        "path,text\n" + "".join(f"{n}.png,{t}\n" for n, t in CAPTIONS.items())
    )
    Path("texts").mkdir()
    for name, text in CAPTIONS.items():
        Path("texts", f"{name}.txt").write_text(f"{text}\n")
    for references in ("truth.json", "table.jsonl", "list.json", "table.csv", "texts"):
        values = scores(capsys, "captions", references, "results.jsonl")
        assert (values["exact_match"], values["images"], values["unit"]) == (1, 2, "fraction")
    write("bad.jsonl", {"file_name": "a.png"})
    assert run(["evaluate", "captions", "bad.jsonl", "results.jsonl"]) == Exit.USAGE
    assert "bad.jsonl: line 1: none of texts, captions" in capsys.readouterr().err


def test_a_missing_caption_is_an_error_unless_partial(capsys: pytest.CaptureFixture[str]) -> None:
    write(
        "results.jsonl",
        {"custom_id": "1", "text": "a dog"},
        {"custom_id": "2", "error": {"code": "image_invalid", "message": "no image"}},
    )
    assert run(["evaluate", "captions", "dataset.json", "results.jsonl"]) == Exit.USAGE
    message = capsys.readouterr().err
    assert "2 of 3 results are missing, 1 are errors" in message
    assert "no image" in message
    assert scores(capsys, "captions", "dataset.json", "results.jsonl", "--partial")["images"] == 1


def test_answers_are_scored(capsys: pytest.CaptureFixture[str]) -> None:
    write("answers.jsonl", {"custom_id": "10", "text": "Red."}, {"custom_id": "11", "text": "two"})
    values = scores(capsys, "vqa", "annotations.json", "answers.jsonl")
    assert values["overall"] == pytest.approx(80.0)
    assert values["unit"] == "percent"
    assert values["perAnswerType"] == {"other": 80.0}


def test_items_of_captions_and_questions_can_be_submitted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["evaluate", "items", "dataset.json", "--images", "coco", "-o", "items.jsonl"]
    assert run([*command, "--prompt", "a picture of"]) == Exit.OK
    assert "--images coco: there is no such folder here" in capsys.readouterr().err
    assert json_lines(Path("items.jsonl").read_text())[0] == {
        "custom_id": "1",
        "image": "coco/val2014/COCO_val2014_000000000001.jpg",
        "prompt": "a picture of",
    }
    write("questions.json", {"questions": [{"question_id": 5, "image_id": 9, "question": "why?"}]})
    command = ["evaluate", "items", "questions.json", "--task", "vqa", "-o", "items.jsonl"]
    assert run([*command, "--images", "coco"]) == Exit.OK
    assert json_lines(Path("items.jsonl").read_text()) == [
        {
            "custom_id": "5",
            "task": "vqa",
            "image": "coco/COCO_val2014_000000000009.jpg",
            "question": "why?",
        }
    ]


def test_retrieval_is_scored_by_vectors_and_after_reranking(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["evaluate", "items", "dataset.json", "--task", "embed"]) == Exit.OK
    items = json_lines(capsys.readouterr().out)
    assert len(items) == 8
    # The second image's vector is nearer to the texts of the first one.
    rows = {"1": [1, 0, 0], "2": [0.9, 0.4, 0], "3": [0, 0, 1]}
    texts = {"1": [0.9, 0.5, 0], "2": [0, 1, 0], "3": [0, 0, 1]}
    write(
        "vectors.jsonl",
        *(
            {
                "custom_id": item["custom_id"],
                "embedding": (texts if "text" in item else rows)[item["custom_id"].split(":")[1]],
            }
            for item in items
        ),
    )
    command = ("retrieval", "dataset.json", "vectors.jsonl", "--top", "3")
    assert scores(capsys, *command)["image_to_text"]["R@1"] == pytest.approx(66.67)

    pairs = ["evaluate", "items", "dataset.json", "--task", "match", "--top", "3"]
    assert run([*pairs, "--vectors", "vectors.jsonl", "-o", "pairs.jsonl"]) == Exit.OK
    own = {"1": "dog", "2": "cats", "3": "bird"}
    write(
        "matches.jsonl",
        *(
            {
                "custom_id": item["custom_id"],
                "matches": [
                    {
                        "text": text,
                        "probability": 0.99 if own[item["custom_id"][6]] in text else 0.1,
                        "cosine": 0.5,
                    }
                    for text in item["texts"]
                ],
            }
            for item in json_lines(Path("pairs.jsonl").read_text())
        ),
    )
    reranked = scores(capsys, *command, "--matches", "matches.jsonl")
    assert reranked["image_to_text"]["R@1"] == reranked["text_to_image"]["R@1"] == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["captions", "dataset.json", "missing.jsonl"], "missing.jsonl"),
        (["captions", "annotations.json", "dataset.json"], "annotations.json"),
        (["vqa", "dataset.json", "dataset.json"], "not VQA annotations"),
        (["items", "dataset.json", "--task", "match"], "needs --vectors"),
        (["items", "dataset.json", "--task", "vqa"], "no VQA questions"),
    ],
)
def test_a_wrong_file_is_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(["evaluate", *arguments]) == Exit.USAGE
    assert message in capsys.readouterr().err


def test_retrieval_without_numpy_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.cli.evaluate_items.find_spec", lambda _: None)
    write("vectors.jsonl")
    assert run(["evaluate", "retrieval", "dataset.json", "vectors.jsonl"]) == Exit.USAGE
    assert "pip install '.[evaluate]'" in capsys.readouterr().err
