"""Annotations of data sets: captions of images in several forms, and answers in the VQA form.

- COCO: ``{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}``
- Karpathy's splits: ``{"images": [{"filename", "filepath", "cocoid", "split", "sentences":
  [{"raw"}]}]}`` (dataset_coco.json, dataset_flickr30k.json)
- BLIP's form of these splits: ``[{"image", "caption": […]}]`` (coco_karpathy_test.json)
- Tables and other outputs with a row for each image, and folders of caption files
  (`image_sources.output_rows`)
- VQA: ``{"annotations": [{"question_id", "answers": [{"answer"}]}]}`` and
  ``{"questions": [{"question_id", "image_id", "question"}]}``
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from ..errors import InvalidInput
from ..image_sources.documents import read_document
from ..image_sources.forms import form_of
from ..validation import format_error
from .caption_rows import caption_rows, has_rows
from .vqa import Question

#: File names of COCO contain the image's id: COCO_val2014_000000391895.jpg, 000000391895.jpg.
_COCO_NAME: Final = re.compile(r"(?:COCO_\w+_)?(\d{12})")
_CAPTION_FORMS: Final = (
    'neither {"annotations": …}, nor Karpathy\'s {"images": …}, nor [{"image", "caption"}], nor a '
    "table with file_name and text"
)
Form = TypeVar("Form")


class _FileObject(BaseModel):
    """An object of a file; fields that no metric reads are ignored."""

    model_config = ConfigDict(strict=True)


class _CocoImage(_FileObject):
    id: int | str
    file_name: str | None = None


class _CocoCaption(_FileObject):
    image_id: int | str
    caption: str


class _CocoFile(_FileObject):
    images: list[_CocoImage] = []
    annotations: list[_CocoCaption]


class _Sentence(_FileObject):
    raw: str


class _KarpathyImage(_FileObject):
    filename: str
    filepath: str = ""
    cocoid: int | str | None = None
    split: str
    sentences: list[_Sentence]


class _KarpathyFile(_FileObject):
    images: list[_KarpathyImage]


class _BlipImage(_FileObject):
    image: str
    caption: str | list[str]


class _Answer(_FileObject):
    answer: str | int | float | bool


class _Annotation(_FileObject):
    question_id: int | str
    answers: list[_Answer]
    answer_type: str | None = None
    question_type: str | None = None


class _AnnotationFile(_FileObject):
    annotations: list[_Annotation]


class _Question(_FileObject):
    question_id: int | str
    image_id: int | str
    question: str


class _QuestionFile(_FileObject):
    questions: list[_Question]


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
    """Read the images with captions of a file in any of these forms; raises InvalidInput.

    Entries of one image are joined. `split` selects images of Karpathy's form only.
    """
    value = _document(path)
    entries: Iterator[CaptionedImage]
    if has_rows(value):
        entries = (CaptionedImage(name, name, captions) for name, captions in caption_rows(path))
    elif isinstance(value, list):
        entries = _of_blip(_checked(list[_BlipImage], value, path, _CAPTION_FORMS))
    elif isinstance(value, dict) and "annotations" in value:
        entries = _of_coco(_checked(_CocoFile, value, path, _CAPTION_FORMS))
    else:
        file = _checked(_KarpathyFile, value, path, _CAPTION_FORMS)
        of_split = [image for image in file.images if image.split == split]
        if not of_split:
            raise InvalidInput(f"{path}: no image is in the split {split!r}")
        entries = _of_karpathy(of_split)
    images = [image for image in _joined(entries, path) if image.captions]
    if not images:
        raise InvalidInput(f"{path}: no images with captions")
    return images


def _document(path: str) -> Any:
    """Return the value of a JSON document under any name; None for a table or JSON lines."""
    form = form_of(path)
    # A pipe could not be read again as rows.
    if form in ("csv", "tsv", "parquet", "tar") or (form != "json" and not os.path.isfile(path)):
        return None
    value = read_document(path)
    # JSON lines may have a single line, which is a row.
    is_row = isinstance(value, dict) and not {"annotations", "images"} & value.keys()
    return None if is_row and form != "json" else value


def read_answers(path: str) -> dict[int | str, Question]:
    """Read VQA annotations by the question's id; raises InvalidInput."""
    message = 'not VQA annotations: {"annotations": [{"question_id", "answers"}]} is needed'
    file = _checked(_AnnotationFile, read_json(path), path, message)
    questions = {
        entry.question_id: Question(
            [str(answer.answer) for answer in entry.answers], entry.answer_type, entry.question_type
        )
        for entry in file.annotations
    }
    for key, question in questions.items():
        if not question.answers:
            raise InvalidInput(f"{path}: question {key}: no answers")
    return questions


def read_questions(path: str) -> list[VisualQuestion]:
    """Read VQA questions; raises InvalidInput."""
    message = 'no VQA questions: {"questions": [{"question_id", "image_id", "question"}]} is needed'
    file = _checked(_QuestionFile, read_json(path), path, message)
    return [
        VisualQuestion(entry.question_id, entry.image_id, entry.question)
        for entry in file.questions
    ]


def image_id_of(file_name: str) -> int | str:
    """Return the id in a file name of COCO, or else the name without folders and suffix."""
    stem = PurePosixPath(file_name).stem
    match = _COCO_NAME.fullmatch(stem)
    return int(match[1]) if match else stem


def _checked(form: type[Form], value: Any, path: str, message: str) -> Form:
    """Return the value of a file in its form; raises InvalidInput that names the first fault."""
    try:
        return TypeAdapter(form).validate_python(value)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        reason = format_error(".".join(map(str, fault["loc"])) or "the file", fault)
        raise InvalidInput(f"{path}: {message} ({reason})") from None


def _of_coco(file: _CocoFile) -> Iterator[CaptionedImage]:
    for image in file.images:
        yield CaptionedImage(image.id, image.file_name, [])
    for annotation in file.annotations:
        yield CaptionedImage(annotation.image_id, None, [annotation.caption])


def _of_karpathy(images: Iterable[_KarpathyImage]) -> Iterator[CaptionedImage]:
    for image in images:
        name = str(PurePosixPath(image.filepath, image.filename))
        captions = [sentence.raw for sentence in image.sentences]
        key = image_id_of(name) if image.cocoid is None else image.cocoid
        yield CaptionedImage(key, name, captions)


def _of_blip(images: Iterable[_BlipImage]) -> Iterator[CaptionedImage]:
    for image in images:
        captions = [image.caption] if isinstance(image.caption, str) else image.caption
        yield CaptionedImage(image_id_of(image.image), image.image, captions)


def _joined(entries: Iterable[CaptionedImage], path: str) -> Iterable[CaptionedImage]:
    """Return each image once, with the captions of all its entries; ids are compared as text."""
    images: dict[str, CaptionedImage] = {}
    for entry in entries:
        image = images.setdefault(str(entry.id), CaptionedImage(entry.id, entry.file_name, []))
        if entry.file_name not in (None, image.file_name):
            raise InvalidInput(
                f"{path}: {image.file_name} and {entry.file_name} have the same id, {entry.id}"
            )
        image.captions.extend(entry.captions)
    return images.values()
