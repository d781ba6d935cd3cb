"""Results to be scored: JSON in the forms of COCO and VQA, and JSON Lines of Blipline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from pydantic_core import from_json

from ..errors import InvalidInput
from .annotations import CaptionedImage, image_id_of, read_json

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
    """Yield each record with its place in the file; raises InvalidInput.

    A file that begins with ``[`` is JSON; any other is JSON Lines.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
            file.seek(0)
            if start == b"[":
                records: Iterable[Any] = read_json(path)
            else:
                records = (_parsed(path, number, line) for number, line in enumerate(file, 1))
            kind = "entry" if start == b"[" else "line"
            for number, record in enumerate(records, start=1):
                if isinstance(record, Mapping):
                    yield f"{path}: {kind} {number}", record
                elif record is not None:
                    raise InvalidInput(f"{path}: {kind} {number}: not an object")
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None


def read_texts(path: str, resolve: Resolve) -> TextResults:
    """Read captions or answers; raises InvalidInput for an unknown id or one that repeats."""
    results = TextResults({})
    for position, record in read_records(path):
        name = next((record[key] for key in _ID_FIELDS if record.get(key) is not None), None)
        if name is None:
            raise InvalidInput(f"{position}: none of {', '.join(_ID_FIELDS)} names its subject")
        key = resolve(name)
        if key is None:
            raise InvalidInput(f"{position}: {name!r:.100} is not in the annotations")
        if key in results.texts:
            raise InvalidInput(f"{position}: there is a result for {name!r:.100} already")
        text = next((record[key] for key in _TEXT_FIELDS if record.get(key) is not None), None)
        if isinstance(text, str):
            results.texts[key] = text
        elif error := record.get("error"):
            results.failures.append(f"{position}: {_message(error)}")
        else:
            raise InvalidInput(f"{position}: none of {', '.join(_TEXT_FIELDS)} is a text")
    return results


def image_ids(images: Iterable[CaptionedImage]) -> Resolve:
    """Return a function that finds an image's id by its id or file name, as text or number."""
    known: dict[str, int | str] = {}
    for image in images:
        for name in (image.file_name and PurePosixPath(image.file_name).name, image.file_name):
            if name:
                known[name] = image.id
        known[str(image.id)] = image.id

    def resolve(name: Any) -> int | str | None:
        text = str(name)
        file_name = PurePosixPath(text).name
        for candidate in (text, file_name, str(image_id_of(file_name))):
            if candidate in known:
                return known[candidate]
        return None

    return resolve


def known_ids(ids: Iterable[int | str]) -> Resolve:
    """Return a function that finds an id as text or number."""
    known = {str(key): key for key in ids}
    return lambda name: known.get(str(name))


def _parsed(path: str, number: int, line: bytes) -> Any:
    if not line.strip():
        return None
    try:
        return from_json(line.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise InvalidInput(f"{path}: line {number}: not JSON: {error}") from None


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error)
