"""Rows of tables: the columns of an annotated image."""

from __future__ import annotations

import codecs
import json
import math
from typing import Any, Final

from ...image_sources.picture import Picture
from ..storage.item import JournalItem

#: Error handler of encodings: bytes of names that are not UTF-8 are written as they are, other lone
#: surrogates, which JSON may contain, as their escape.
SURROGATES: Final = "blipline.surrogates"


def file_name_of(picture: Picture) -> str:
    """Return the name of an image in tables: that of the table it comes from, or of the source."""
    name = picture.columns.get("file_name")
    return name if isinstance(name, str) and name else picture.name


def row_of(item: JournalItem, text_column: str, folder: str | None = None) -> dict[str, Any]:
    """Return the row of an item: its file name, its own columns, and its texts.

    In a table in `folder`, `image` leads to the image, unless that is in an archive. Several
    captions are also in `texts`; the answers to several questions in `answers`.
    """
    columns = {name: value for name, value in item.picture.columns.items() if name != text_column}
    row: dict[str, Any] = {"file_name": file_name_of(item.picture)}
    if folder is not None and (image := item.picture.locator.reference_from(folder)) is not None:
        row["image"] = image
    row |= {name: value for name, value in columns.items() if name != "file_name"}
    row[text_column] = item.texts[0] if item.texts else ""
    if len(item.texts) > 1:
        if len(item.questions) == len(item.texts):
            row["answers"] = [
                {"question": question, "text": text}
                for question, text in zip(item.questions, item.texts, strict=True)
            ]
        else:
            row["texts"] = item.texts
    return row


def json_line(value: Any) -> bytes:
    """Return a line of JSON in UTF-8; bytes of a name that are not UTF-8 are escaped."""
    return json_text(value).encode("utf-8", "backslashreplace") + b"\n"


def text_of(value: Any) -> str:
    """Return a value as the text of a cell."""
    if value is None:
        return ""
    if isinstance(value, float):
        return str(value)
    return value if isinstance(value, str) else json_text(value)


def utf8_of(text: str) -> str:
    """Return a text in UTF-8, with the bytes that are none, as of file names, as `\\udc80`."""
    return text.encode("utf-8", "backslashreplace").decode()


def json_text(value: Any) -> str:
    """Return a value as JSON, which has no NaN and no infinity: they become null."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(value), ensure_ascii=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _encode_surrogates(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


codecs.register_error(SURROGATES, _encode_surrogates)
