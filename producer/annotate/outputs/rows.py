"""Rows of tables: the columns of an annotated image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ..storage.item import ItemState, JournalItem
from ..storage.journal import Journal

#: Items that are rows of a table.
WRITTEN: Final = (ItemState.READY, ItemState.DONE, ItemState.SKIPPED)


def row_of(item: JournalItem, text_column: str, questions: Sequence[str]) -> dict[str, Any]:
    """Return the row of an item: its file name, its own columns, and its texts.

    Several captions are also in `texts`; the answers to several questions in `answers`.
    """
    columns = {name: value for name, value in item.picture.columns.items() if name != text_column}
    row = {"file_name": item.picture.name, **columns}
    row[text_column] = item.texts[0] if item.texts else ""
    if len(item.texts) > 1:
        if len(questions) == len(item.texts):
            row["answers"] = [
                {"question": question, "text": text}
                for question, text in zip(questions, item.texts, strict=True)
            ]
        else:
            row["texts"] = item.texts
    return row


def rows_of(
    journal: Journal, text_column: str, questions: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all items with texts, in the order of the collection."""
    for item in journal.items(*WRITTEN):
        yield row_of(item, text_column, questions)


def json_line(value: Any) -> bytes:
    """Return a line of JSON in UTF-8; bytes of a name that are not UTF-8 are escaped."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def text_of(value: Any) -> str:
    """Return a value as the text of a cell."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
