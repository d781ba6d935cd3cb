"""Items of a data set for `blipline batch submit`: captions, questions, embeddings, matches."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ..contract import MAX_TEXTS, MAX_TEXTS_CHARS
from ..errors import InvalidInput
from .annotations import CaptionedImage, VisualQuestion

#: Words of a caption that retrieval reads, as in BLIP's and LAVIS's evaluations.
_MAX_WORDS: Final = 30
_DROPPED: Final = re.compile(r"[.!\"()*#:;~]")
#: File names of images, with the place of the id: ``{}``, ``{:012d}``.
_NAME_FORMAT: Final = re.compile(r"[^{}]*\{(?::(?:0?[0-9]{1,2})?d)?\}[^{}]*")


def caption_items(
    images: Iterable[CaptionedImage], folder: str, prompt: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield an item for each image; its `custom_id` is the image's id."""
    for image in images:
        item = {"custom_id": str(image.id), "image": image_path(image, folder)}
        yield item | ({"prompt": prompt} if prompt else {})


def question_items(
    questions: Iterable[VisualQuestion], folder: str, name_format: str
) -> Iterator[dict[str, Any]]:
    """Yield an item for each question; its `custom_id` is the question's id.

    Raises InvalidInput for a format without exactly one ``{}`` or ``{:012d}``.
    """
    if not _NAME_FORMAT.fullmatch(name_format):
        raise InvalidInput(
            f"--image-name {name_format!r:.100}: write the place of the image's id once, as {{}} "
            "or with a number of digits, as {:012d}"
        )
    for question in questions:
        yield {
            "custom_id": str(question.id),
            "task": "vqa",
            "image": os.path.join(folder, _image_name(question, name_format)),
            "question": question.question,
        }


def _image_name(question: VisualQuestion, name_format: str) -> str:
    try:
        return name_format.format(question.image_id)
    except ValueError:
        raise InvalidInput(
            f"question {question.id}: the image id {question.image_id!r:.100} is not a number: "
            "choose {} in --image-name"
        ) from None


def embedding_items(images: Iterable[CaptionedImage], folder: str) -> Iterator[dict[str, Any]]:
    """Yield an item for each image, ``image:ID``, and for each caption, ``text:ID:NUMBER``."""
    for image in images:
        path = image_path(image, folder)
        yield {"custom_id": f"image:{image.id}", "task": "embed", "image": path}
        for number, caption in enumerate(image.captions):
            text = retrieval_text(caption)
            yield {"custom_id": f"text:{image.id}:{number}", "task": "embed", "text": text}


def match_items(
    images: Sequence[CaptionedImage], folder: str, candidates: Mapping[int, Sequence[str]]
) -> Iterator[dict[str, Any]]:
    """Yield items that match each image with its candidate texts, ``match:ID:NUMBER``.

    `candidates` has the texts by the image's position.
    """
    for position, texts in sorted(candidates.items()):
        image = images[position]
        path = image_path(image, folder)
        for number, chunk in enumerate(_chunks(texts)):
            custom_id = f"match:{image.id}:{number}"
            yield {"custom_id": custom_id, "task": "match", "image": path, "texts": chunk}


def image_path(image: CaptionedImage, folder: str) -> str:
    """Return the path of an image; raises InvalidInput if its annotation names no file."""
    if image.file_name is None:
        raise InvalidInput(f"image {image.id}: the annotations do not name its file")
    return os.path.join(folder, image.file_name)


def retrieval_text(caption: str) -> str:
    """Return a caption as BLIP's retrieval reads it: lower case, no punctuation, 30 words."""
    words = _DROPPED.sub(" ", caption.lower()).split()
    return " ".join(words[:_MAX_WORDS])


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield texts in lists within the limits of an item."""
    chunk: list[str] = []
    characters = 0
    for text in texts:
        if chunk and (len(chunk) == MAX_TEXTS or characters + len(text) > MAX_TEXTS_CHARS):
            yield chunk
            chunk, characters = [], 0
        chunk.append(text)
        characters += len(text)
    if chunk:
        yield chunk
