"""An entry of a contact sheet: an image with its text, or with the error in place of a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..image_sources.picture import Locator, Picture
from ..image_sources.rows import first_of, list_of
from ..ledger.data_url import contains_data

#: Columns of an output in the order of preference: what identifies an image, and its text.
_NAMES: Final = ("file_name", "image", "path", "url", "custom_id", "image_id", "question_id")
_IMAGES: Final = ("image", "file_name", "path", "url")
_TEXTS: Final = ("text", "caption", "answer")
#: Columns that the sheet shows in a form of its own, or not at all.
_OWN_FORM: Final = frozenset(
    {*_TEXTS, "texts", "answers", "matches", "embedding", "error", "error_code", "error_message"}
)
#: Maximum characters of a further column.
_MAX_FIELD_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class SheetEntry:
    """An image of an output."""

    name: str
    #: Path, URL or ``data:`` URL of the image; None if the output does not name it.
    image: str | None
    text: str
    error: str | None = None
    #: The further columns, as text.
    fields: dict[str, str] = field(default_factory=dict)
    #: Place of an image within an archive or a table.
    locator: Locator | None = None

    @classmethod
    def of_row(cls, row: Mapping[str, Any], number: int) -> SheetEntry:
        """Return the entry of a row of an output, whose position counts from 1."""
        image = _first(row, _IMAGES)
        name = _first(row, _NAMES) or str(number)
        # A data: URL is an image, but no name.
        if contains_data(name):
            name = _first(row, ("custom_id",)) or str(number)
        return cls(name, image, _text(row), _error(row), _fields(row, image))

    @classmethod
    def of_picture(cls, picture: Picture, number: int) -> SheetEntry:
        """Return the entry of an image in an archive or a table."""
        row = {"file_name": picture.name, **picture.columns}
        if picture.caption is not None:
            row |= {"text": picture.caption}
        locator = picture.locator
        if locator.kind == "error":
            row |= {"error": locator.address}
        entry = cls.of_row(row, number)
        if locator.kind in ("tar", "cell"):
            return replace(entry, locator=locator)
        return entry if locator.kind == "error" else replace(entry, image=locator.address)


def _first(row: Mapping[str, Any], columns: tuple[str, ...]) -> str | None:
    """Return the first column that is not empty, as text."""
    value = first_of(row, columns, (str, int))
    return None if value is None else str(value)


def _text(row: Mapping[str, Any]) -> str:
    """Return all texts of a row, each on a line of its own."""
    answers, texts = list_of(row.get("answers")), list_of(row.get("texts"))
    if isinstance(answers, list):
        lines = [f"{_part(answer, 'question')} {_part(answer, 'text')}" for answer in answers]
    elif isinstance(texts, list):
        lines = [str(text) for text in texts]
    elif isinstance(matches := list_of(row.get("matches")), list):
        lines = [_match_line(match) for match in matches]
    else:
        lines = [_first(row, _TEXTS) or ""]
    return "\n".join(line.strip() for line in lines)


def _match_line(match: Any) -> str:
    probability = match.get("probability") if isinstance(match, Mapping) else None
    is_probability = isinstance(probability, float | int) and 0 <= probability <= 1
    score = f"{probability:.3f} " if is_probability else ""
    return score + _part(match, "text")


def _part(value: Any, name: str) -> str:
    return str(value.get(name, "")) if isinstance(value, Mapping) else str(value)


def _error(row: Mapping[str, Any]) -> str | None:
    error = row.get("error")
    if isinstance(error, Mapping):
        return str(error.get("message") or error.get("code"))
    return (str(error) if error else None) or _first(row, ("error_message", "error_code"))


def _fields(row: Mapping[str, Any], image: str | None) -> dict[str, str]:
    fields = {}
    for column, value in row.items():
        if column in _OWN_FORM or value in (None, "", image) or (column, value) == ("status", "ok"):
            continue
        fields[str(column)] = str(value)[:_MAX_FIELD_CHARS]
    return fields
