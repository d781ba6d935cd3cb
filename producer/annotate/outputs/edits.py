"""Changes that people and other programs made in a table since the last run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from ...image_sources.picture import Picture
from ..storage.file_rows import FileRow
from ..storage.item import ItemState, JournalItem
from ..storage.journal import Journal
from .rows import text_of

#: Columns of several texts; they are made of the texts.
_SEVERAL: Final = ("texts", "answers")


def texts_of_row(text: str | None, columns: Mapping[str, Any]) -> list[str]:
    """Return the texts of a row of the file; the one of the text's column may be edited."""
    several = _several(columns)
    return [] if text is None else [text, *several[1:]]


def adopt_edits(journal: Journal, name_of: Callable[[Picture], str]) -> int:
    """Take edited texts and columns of the file into the journal; return the number of texts.

    The texts of the journal are those that the last run wrote.
    """
    edited = 0
    for item in journal.items(*ItemState):
        name = name_of(item.picture)
        row = journal.file_rows.get(name)
        if row is None:
            continue
        journal.file_rows.put_edits(row, _edited_columns(row, item))
        if row.texts and item.texts:
            texts = _present_texts(row, item.texts)
            if "\n".join(texts) != "\n".join(item.texts):
                journal.adopt_texts(item.picture.key, texts)
                edited += 1
            journal.file_rows.clear_texts([name])
        elif row.texts and item.state is ItemState.FAILED:
            journal.forget_recipe(item.picture.key)
    return edited


def _present_texts(row: FileRow, texts: list[str]) -> list[str]:
    """Return the texts that the file has in place of `texts`."""
    several = _several(row.columns)
    if len(texts) == 1 and "\n" not in texts[0]:
        # Another program's column may be a list, too.
        return row.texts if len(row.texts) == 1 or not several else row.texts[:1]
    if len(several) == len(texts) and row.texts[0] == texts[0]:
        return several
    return row.texts


def merged(row: Mapping[str, Any], row_of_file: FileRow, texts: list[str]) -> dict[str, Any]:
    """Return a row of the journal with the columns that the file has besides."""
    own, columns = dict(row), dict(row_of_file.columns)
    if len(texts) > 1 and _several({"answers": columns.get("answers")}) == texts:
        # The journal does not know the questions of an earlier run.
        own.pop("texts", None)
        columns.pop("texts", None)
    else:
        # Those that the command wrote; other values are another program's.
        columns = {
            name: value
            for name, value in columns.items()
            if name not in _SEVERAL or not _several({name: value})
        }
    return {"file_name": own["file_name"], **columns, **own, **row_of_file.edits}


def _edited_columns(row: FileRow, item: JournalItem) -> dict[str, Any]:
    """Return the columns of the file that came from the source, and differ from it."""
    source = item.picture.columns
    return {
        name: value
        for name, value in row.columns.items()
        if name in source and name not in _SEVERAL and text_of(value) != text_of(source[name])
    }


def _several(columns: Mapping[str, Any]) -> list[str]:
    """Return the texts of the columns of several texts; CSV has them as JSON."""
    for name in _SEVERAL:
        value = columns.get(name)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                continue
        if isinstance(value, list):
            parts = [p.get("text") if isinstance(p, dict) else p for p in value]
            is_answers = all(isinstance(p, dict) for p in value)
            if is_answers == (name == "answers") and all(isinstance(p, str) for p in parts):
                return [str(p) for p in parts]
    return []
