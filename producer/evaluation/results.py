"""Results to be scored: JSON in the forms of COCO and VQA, and each output of Blipline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from ..errors import InvalidInput
from ..image_sources.output_rows import output_rows
from ..image_sources.rows import first_of
from .annotations import CaptionedImage, image_id_of
from .caption_rows import ERROR_FIELDS

#: Fields that identify a result and that contain its text, in the order of preference.
_ID_FIELDS: Final = ("image_id", "question_id", "custom_id", "file_name", "image")
_TEXT_FIELDS: Final = ("caption", "answer", "text")

Resolve = Callable[[Any], int | str | None]


@dataclass(frozen=True, slots=True)
class TextResults:
    """Texts by the id of their image or question."""

    texts: dict[int | str, str]
    #: Results without a text, such as errors, by their position from 1 and their message.
    failures: list[str] = field(default_factory=list)


def read_records(path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each record of an output with its position in the file; raises InvalidInput."""
    for position, record in output_rows(path):
        yield f"{path}: {position}", record


def read_texts(path: str, resolve: Resolve) -> TextResults:
    """Read captions or answers; raises InvalidInput for an unknown id or one that repeats."""
    results = TextResults({})
    for position, record in read_records(path):
        name = first_of(record, _ID_FIELDS)
        if name is None:
            raise InvalidInput(f"{position}: none of {', '.join(_ID_FIELDS)} names its subject")
        key = resolve(name)
        if key is None:
            raise InvalidInput(f"{position}: {name!r:.100} is not in the annotations")
        if key in results.texts:
            raise InvalidInput(f"{position}: there is a result for {name!r:.100} already")
        text = next((record[key] for key in _TEXT_FIELDS if record.get(key) is not None), None)
        error = first_of(record, ERROR_FIELDS)
        if isinstance(text, str) and (text or not error):
            results.texts[key] = text
        elif error:
            results.failures.append(f"{position}: {_message(error)}")
        else:
            raise InvalidInput(f"{position}: none of {', '.join(_TEXT_FIELDS)} is a text")
    return results


def image_ids(images: Collection[CaptionedImage]) -> Resolve:
    """Return a function that finds an image's id by its id or file name, as text or number."""
    known: dict[str, int | str | None] = {}
    named = [image for image in images if image.file_name]
    for part in (3, 2, 1, 0):
        names = Counter(_names_of(image.file_name)[part] for image in named)
        for image in named:
            name = _names_of(image.file_name)[part]
            # A name of two images leads to neither.
            known[name] = image.id if names[name] == 1 else None
    known |= {str(image.id): image.id for image in images}

    def resolve(name: Any) -> int | str | None:
        path, stem_path, file_name, _ = _names_of(str(name))
        candidates = (path, stem_path, file_name, str(image_id_of(file_name)))
        return next((known[text] for text in candidates if known.get(text) is not None), None)

    return resolve


def _names_of(path: str | None) -> tuple[str, str, str, str]:
    """Return a path, also without its suffix, and both without its folders."""
    name = PurePosixPath(path or "")
    return str(path), str(name.with_suffix("")) if name.name else "", name.name, name.stem


def known_ids(ids: Iterable[int | str]) -> Resolve:
    """Return a function that finds an id as text or number."""
    known = {str(key): key for key in ids}
    return lambda name: known.get(str(name))


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error)
