"""Changes that people and other programs made in a table: a merge of three versions of each row.

The base is what the last run wrote into the file, `theirs` is what the file has now, and `ours` is
what the journal has. An edit is a value of the file that differs from both others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from ...errors import InvalidInput
from ...image_sources.picture import Picture
from ..storage.file_rows import FileRow
from ..storage.item import NO_TEXTS, ItemState, JournalItem, Texts
from ..storage.journal import Journal

#: Columns of several texts; they are made of the texts.
SEVERAL: Final = ("texts", "answers")
#: Columns that name the image of an owned row.
_NAMES: Final = ("file_name", "image")
_EMPTY: Final = (None, "")


class Table(Protocol):
    """A table as the merge sees it."""

    path: str
    text_column: str
    #: Columns of several texts.
    several: Sequence[str]

    def name_of(self, picture: Picture) -> str:
        """Return the name of an image in the file."""

    def row_of(self, item: JournalItem) -> dict[str, Any]:
        """Return the row of an item."""

    def texts_of(self, columns: Mapping[str, Any], written: Texts | None) -> Texts:
        """Return the texts of a row of the file; `written` are those that the last run wrote."""

    def is_row_of(self, row: FileRow, picture: Picture) -> bool:
        """Return False if a row with the name of an image is of another image."""

    def comparable(self, value: Any) -> str:
        """Return a value as the file has it, for comparisons."""


def adopt_edits(journal: Journal, table: Table) -> int:
    """Give each row of the file to its item, with the edits; return the number of edited texts.

    Rows that are as the last run wrote them are given first, so that no other item takes them.
    """
    edited = 0
    for is_exact in (True, False):
        for item in journal.items_without_row():
            base = journal.last_write.item(item.picture.key)
            if is_exact and base is None:
                continue
            known = base or item
            rows = free_rows(journal, table, known.picture)
            row = best_row(table, rows, known, is_exact=is_exact)
            if row is not None:
                check_text(table, row)
                own = own_columns(table, row, item, base)
                journal.file_rows.own(row, item.picture.key, own)
                edited += _adopt_texts(journal, table, row, item, base)
    return edited


def free_rows(journal: Journal, table: Table, picture: Picture) -> Iterator[FileRow]:
    """Yield the rows that nobody owns and that have the name of an image, or name only its path."""
    yield from journal.file_rows.free(table.name_of(picture))
    paths = (picture.locator.reference_from(os.path.dirname(table.path)), picture.path)
    for path in dict.fromkeys(filter(None, paths)):
        for row in journal.file_rows.free(path):
            if not row.columns.get("file_name"):
                yield row


def check_text(table: Table, row: FileRow) -> None:
    """Check the row of an image; raises InvalidInput if a caption would replace another value."""
    column = table.text_column
    value = row.columns.get(column)
    if value is not None and not isinstance(value, str):
        text = json.dumps(value, default=str)
        raise InvalidInput(
            f"{table.path}: {row.name!r:.100}: its {column!r} is no text: {text:.60}: mend it, "
            "choose another --text-column, or another file with -o"
        )


def best_row(
    table: Table, rows: Iterable[FileRow], item: JournalItem, *, is_exact: bool = False
) -> FileRow | None:
    """Return the row that is most like that of an item, or exactly like it; None without one."""
    best, best_score = None, -1
    columns = table.row_of(item)
    if not item.texts:
        del columns[table.text_column]
    for row in rows:
        score = sum(_same(table, row.columns.get(name), columns[name]) for name in columns)
        if score > best_score and (not is_exact or score == len(columns)):
            if table.is_row_of(row, item.picture):
                best, best_score = row, score
            if score == len(columns):
                break
    return best


def own_columns(
    table: Table, row: FileRow, item: JournalItem, base: JournalItem | None
) -> set[str]:
    """Return the columns of a row that the item's values replace: all that nobody edited."""
    ours = table.row_of(item)
    written = ours if base is None else table.row_of(base)
    own = {table.text_column, *_NAMES}
    for name, value in row.columns.items():
        if name in table.several:
            is_own = _has_own_texts(table, row, name, base)
        elif base is None:
            is_own = name in ours
        else:
            versions = [version[name] for version in (written, ours) if name in version]
            is_own = any(_same(table, value, version) for version in versions)
        if is_own:
            own.add(name)
    return own


def merged(ours: Mapping[str, Any], row: FileRow) -> dict[str, Any]:
    """Return a row of the journal with the columns that the file has besides, in its order."""
    columns = {
        name: ours[name] if name in row.own and name in ours else value
        for name, value in row.columns.items()
        if name not in row.own or name in ours or value in _EMPTY
    }
    return {**columns, **{name: ours[name] for name in ours if name not in columns}}


def texts_of_row(columns: Mapping[str, Any], text_column: str, written: Texts | None) -> Texts:
    """Return the texts of a row of the file; the one of the text's column may be edited."""
    text = columns.get(text_column)
    if not isinstance(text, str) or not text:
        return NO_TEXTS
    if written is not None and len(written.texts) == 1:
        # Columns of several texts are another program's.
        return Texts([text], [])
    several = next(filter(lambda texts: texts.texts, _several(columns)), NO_TEXTS)
    if several.texts[:1] == [text]:
        return several
    if written is None:
        return Texts([text], [])
    if len(several.texts) == len(written.texts) and text == written.texts[0]:
        return several
    return Texts([text, *several.texts[1:]], several.questions)


def _adopt_texts(
    journal: Journal, table: Table, row: FileRow, item: JournalItem, base: JournalItem | None
) -> bool:
    written = None if base is None else Texts(base.texts, base.questions)
    theirs = table.texts_of(row.columns, written)
    before = (item.existing or "") if written is None else "\n".join(written.texts)
    versions = {table.comparable(text) for text in (before, "\n".join(item.texts))}
    key = item.picture.key
    if not theirs.texts or table.comparable("\n".join(theirs.texts)) in versions:
        if theirs.questions and theirs.texts == item.texts:
            journal.label(key, theirs.questions)
        return False
    journal.adopt_texts(key, theirs, _recipe(journal, item, base))
    return True


def _recipe(journal: Journal, item: JournalItem, base: JournalItem | None) -> str | None:
    """Return the recipe of an item with an edited text; None if that stays as it is.

    An edit is newer than a run that overwrites texts and was killed; its continuation keeps it. An
    edit of a text to which a killed run has added something is added to again.
    """
    if overwriting := journal.read_state("overwriting"):
        return overwriting
    is_complete = item.state in (ItemState.DONE, ItemState.SKIPPED)
    return None if is_complete and base is not None and base.texts == item.texts else ""


def _has_own_texts(table: Table, row: FileRow, name: str, base: JournalItem | None) -> bool:
    """Return whether a column of several texts is the command's, and not another program's."""
    value = row.columns[name]
    if value in _EMPTY:
        return True
    if base is not None:
        return name in table.row_of(base)
    (texts,) = _several({name: value}, (name,))
    return texts.texts[:1] == [row.columns.get(table.text_column)]


def _same(table: Table, value: Any, second: Any) -> bool:
    return table.comparable(value) == table.comparable(second)


def _several(columns: Mapping[str, Any], names: Sequence[str] = SEVERAL) -> Iterator[Texts]:
    """Yield the texts of each column of several texts; CSV has them as JSON."""
    for name in names:
        value = columns.get(name)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                value = None
        parts = value if isinstance(value, list) else []
        if name == "answers":
            is_answer = [isinstance(part, dict) and _is_answer(part) for part in parts]
            if all(is_answer):
                yield Texts([p["text"] for p in parts], [p["question"] for p in parts])
                continue
        elif all(isinstance(part, str) for part in parts):
            yield Texts(list(parts), [])
            continue
        yield NO_TEXTS


def _is_answer(part: Mapping[str, Any]) -> bool:
    return isinstance(part.get("text"), str) and isinstance(part.get("question"), str)
