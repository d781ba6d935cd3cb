"""Annotations of data sets: captions of images in three forms, and answers in the VQA form.

- COCO: ``{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}``
- Karpathy's splits: ``{"images": [{"filename", "filepath", "cocoid", "split", "sentences":
  [{"raw"}]}]}`` (dataset_coco.json, dataset_flickr30k.json)
- BLIP's form of these splits: ``[{"image", "caption": […]}]`` (coco_karpathy_test.json)
- VQA: ``{"annotations": [{"question_id", "answers": [{"answer"}]}]}`` and
  ``{"questions": [{"question_id", "image_id", "question"}]}``
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from pydantic_core import from_json

from ..errors import InvalidInput
from .vqa import Question

#: File names of COCO contain the image's id: COCO_val2014_000000391895.jpg, 000000391895.jpg.
_COCO_NAME: Final = re.compile(r"(?:COCO_\w+_)?(\d{12})")
_CAPTION_FORMS: Final = (
    'neither {"annotations": …}, nor Karpathy\'s {"images": …}, nor [{"image", "caption"}]'
)


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """An image with its reference captions."""

    id: int | str
    #: Path below the folder of images; None if the annotations do not name it.
    file_name: str | None
    captions: list[str]


@dataclass(frozen=True, slots=True)
class VisualQuestion:
    """A question about an image."""

    id: int | str
    image_id: int | str
    question: str


def read_json(path: str) -> Any:
    """Read a JSON file; raises InvalidInput that names the file and the position."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return from_json(data)
    except ValueError as error:
        raise InvalidInput(f"{path}: not JSON: {error}") from None


def read_captioned_images(path: str, split: str = "test") -> list[CaptionedImage]:
    """Read the images of a file in any of the three forms; raises InvalidInput.

    `split` selects images of Karpathy's form only.
    """
    value = read_json(path)
    try:
        if isinstance(value, list):
            images = [_of_blip(entry) for entry in value]
        elif "annotations" in value:
            images = _of_coco(value)
        else:
            images = [_of_karpathy(entry) for entry in value["images"] if entry["split"] == split]
            if not images:
                raise InvalidInput(f"{path}: no image is in the split {split!r}")
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path}: {_CAPTION_FORMS} ({_reason(error)})") from None
    if not images:
        raise InvalidInput(f"{path}: no images")
    return images


def read_answers(path: str) -> dict[int | str, Question]:
    """Read VQA annotations by the question's id; raises InvalidInput."""
    value = read_json(path)
    try:
        questions = {
            entry["question_id"]: Question(
                [str(answer["answer"]) for answer in entry["answers"]],
                entry.get("answer_type"),
                entry.get("question_type"),
            )
            for entry in value["annotations"]
        }
    except (KeyError, TypeError, AttributeError) as error:
        message = 'not VQA annotations: {"annotations": [{"question_id", "answers"}]} is needed'
        raise InvalidInput(f"{path}: {message} ({_reason(error)})") from None
    for key, question in questions.items():
        if not question.answers:
            raise InvalidInput(f"{path}: question {key}: no answers")
    return questions


def read_questions(path: str) -> list[VisualQuestion]:
    """Read VQA questions; raises InvalidInput."""
    value = read_json(path)
    try:
        return [
            VisualQuestion(entry["question_id"], entry["image_id"], entry["question"])
            for entry in value["questions"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        message = 'no VQA questions: {"questions": [{"question_id", "image_id", "question"}]} is'
        raise InvalidInput(f"{path}: {message} needed ({_reason(error)})") from None


def image_id_of(file_name: str) -> int | str:
    """Return the id in a file name of COCO, or else the name without folders and suffix."""
    stem = PurePosixPath(file_name).stem
    match = _COCO_NAME.fullmatch(stem)
    return int(match[1]) if match else stem


def _of_coco(value: Mapping[str, Any]) -> list[CaptionedImage]:
    names = {image["id"]: image.get("file_name") for image in value.get("images", ())}
    images = {key: CaptionedImage(key, name, []) for key, name in names.items()}
    for annotation in value["annotations"]:
        key = annotation["image_id"]
        image = images.setdefault(key, CaptionedImage(key, None, []))
        image.captions.append(annotation["caption"])
    return [image for image in images.values() if image.captions]


def _of_karpathy(entry: Mapping[str, Any]) -> CaptionedImage:
    name = str(PurePosixPath(entry.get("filepath", ""), entry["filename"]))
    captions = [sentence["raw"] for sentence in entry["sentences"]]
    return CaptionedImage(entry.get("cocoid", image_id_of(name)), name, captions)


def _of_blip(entry: Mapping[str, Any]) -> CaptionedImage:
    captions = entry["caption"]
    captions = [captions] if isinstance(captions, str) else list(captions)
    return CaptionedImage(image_id_of(entry["image"]), entry["image"], captions)


def _reason(error: Exception) -> str:
    return f"no {json.dumps(error.args[0])}" if isinstance(error, KeyError) else str(error)
