"""Annotations and results in all their forms, and errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from producer.errors import InvalidInput
from producer.evaluation.annotations import (
    CaptionedImage,
    read_answers,
    read_captioned_images,
    read_questions,
)
from producer.evaluation.results import image_ids, known_ids, read_texts

COCO = {
    "images": [{"id": 391895, "file_name": "COCO_val2014_000000391895.jpg"}, {"id": 2}],
    "annotations": [
        {"image_id": 391895, "id": 1, "caption": "a man"},
        {"image_id": 391895, "id": 2, "caption": "a rider"},
    ],
}
KARPATHY = {
    "images": [
        {
            "filepath": "val2014",
            "filename": "COCO_val2014_000000391895.jpg",
            "cocoid": 391895,
            "split": "test",
            "sentences": [{"raw": "a man"}, {"raw": "a rider"}],
        },
        {"filename": "1.jpg", "split": "train", "sentences": [{"raw": "a dog"}]},
    ]
}
BLIP = [{"image": "val2014/COCO_val2014_000000391895.jpg", "caption": ["a man", "a rider"]}]
IMAGE = CaptionedImage(391895, "val2014/COCO_val2014_000000391895.jpg", ["a man", "a rider"])


def written(folder: Path, value: Any) -> str:
    path = folder / "file.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


@pytest.mark.parametrize("value", [KARPATHY, BLIP], ids=["karpathy", "blip"])
def test_both_forms_of_karpathys_split_are_equal(tmp_path: Path, value: Any) -> None:
    assert read_captioned_images(written(tmp_path, value)) == [IMAGE]


@pytest.mark.parametrize("name", ["captions", "captions.txt", "captions.jsonl", "c.annotations"])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("value", [COCO, KARPATHY, BLIP], ids=["coco", "karpathy", "blip"])
def test_a_document_is_known_by_its_content(
    tmp_path: Path, value: Any, indent: int | None, name: str
) -> None:
    path = tmp_path / name
    path.write_text(json.dumps(value, indent=indent))
    (image,) = read_captioned_images(str(path))
    assert (image.id, image.captions) == (391895, ["a man", "a rider"])


@pytest.mark.parametrize("name", ["captions", "captions.jsonl"])
@pytest.mark.parametrize("count", [1, 2])
def test_json_lines_are_rows_also_if_there_is_a_single_one(
    tmp_path: Path, name: str, count: int
) -> None:
    path = tmp_path / name
    lines = (json.dumps({"file_name": f"{n}.jpg", "text": "a dog"}) for n in range(count))
    path.write_text("\n".join(lines))
    images = read_captioned_images(str(path))
    assert [image.captions for image in images] == [["a dog"]] * count


def test_an_image_of_coco_without_captions_is_left_out(tmp_path: Path) -> None:
    (image,) = read_captioned_images(written(tmp_path, COCO))
    assert image == CaptionedImage(391895, "COCO_val2014_000000391895.jpg", ["a man", "a rider"])


def test_a_file_of_flickr_has_the_stem_of_its_name_as_id(tmp_path: Path) -> None:
    value = [{"image": "flickr30k-images/1007129816.jpg", "caption": "a man"}]
    assert read_captioned_images(written(tmp_path, value))[0].id == "1007129816"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "not JSON"),
        ({}, "neither .* \\(images: is missing\\)"),
        ([], "no images"),
        ([1], "neither"),
        ({"images": []}, "no image is in the split 'test'"),
        ({"annotations": [{"caption": "a"}]}, "image_id: is missing"),
    ],
)
def test_an_invalid_file_of_captions_is_named(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=rf"file\.json: .*{message}"):
        read_captioned_images(written(tmp_path, value))


def test_vqa_annotations_and_questions_are_read(tmp_path: Path) -> None:
    annotation = {"question_id": 5, "answers": [{"answer": "yes"}], "answer_type": "yes/no"}
    questions = read_answers(written(tmp_path, {"annotations": [annotation]}))
    assert (questions[5].answers, questions[5].answer_type) == (["yes"], "yes/no")
    value = {"questions": [{"question_id": 5, "image_id": 9, "question": "is it?"}]}
    (question,) = read_questions(written(tmp_path, value))
    assert (question.id, question.image_id, question.question) == (5, 9, "is it?")


@pytest.mark.parametrize("read", [read_answers, read_questions])
def test_an_invalid_file_of_vqa_is_named(tmp_path: Path, read: Any) -> None:
    with pytest.raises(InvalidInput, match=r"file\.json: .* is needed"):
        read(written(tmp_path, COCO))


@pytest.mark.parametrize(
    "results",
    [
        [{"image_id": 391895, "caption": "x"}],
        '{"custom_id": "391895", "status": "ok", "text": "x"}\n\n',
        '\ufeff{"file_name": "COCO_val2014_000000391895.jpg", "text": "x"}',
        '{"image": "/data/val2014/COCO_val2014_000000391895.jpg", "caption": "x"}',
    ],
)
def test_a_result_finds_its_image_by_id_or_file_name(tmp_path: Path, results: Any) -> None:
    given = read_texts(written(tmp_path, results), image_ids([IMAGE]))
    assert given.texts == {391895: "x"}


def test_a_file_name_of_two_images_leads_to_neither() -> None:
    resolve = image_ids([CaptionedImage(n, f"{n}/x.png", ["a"]) for n in ("a", "b")])
    names = ("a/x.png", "b/x", "/data/a/x.png", "x")
    assert [resolve(name) for name in names] == ["a", "b", None, None]


def test_an_error_is_a_failure_and_no_text(tmp_path: Path) -> None:
    line = '{"custom_id": "7", "error": {"code": "image_invalid", "message": "no image"}}'
    given = read_texts(written(tmp_path, line), known_ids([7]))
    assert given.texts == {}
    assert given.failures[0].endswith("line 1: no image")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"text": "a"}', "line 1: none of image_id"),
        ('{"image_id": 8, "text": "a"}', "line 1: 8 is not in the annotations"),
        ('{"image_id": 7, "text": "a"}\n{"image_id": "7", "text": "b"}', "line 2: .* already"),
        ('{"image_id": 7}', "line 1: none of caption, answer, text is a text"),
        ('{"image_id": 7, "text": "a"}\n{', "line 2: not JSON"),
        ("[1]", "entry 1: not an object"),
    ],
)
def test_an_invalid_result_is_named(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=rf"file\.json: {message}"):
        read_texts(written(tmp_path, lines), known_ids([7]))
