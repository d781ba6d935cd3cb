"""Rows of a table as the last run found them, each as its file has it.

They are read when the file is not as the last run left it. A row has an owner, the item of its
image, or none: that of another program. Several rows may have one name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ...errors import InvalidInput
from .item import key_bytes
from .statements import PAGE_ROWS, Statements

#: `own` has the columns whose values are the command's, in place of those of the file.
TABLE: Final = """
CREATE TABLE IF NOT EXISTS table_rows (
    position INTEGER PRIMARY KEY, name BLOB, owner BLOB, columns TEXT, own TEXT
);
CREATE INDEX IF NOT EXISTS table_rows_name ON table_rows (name, owner, position);
CREATE INDEX IF NOT EXISTS table_rows_owner ON table_rows (owner);
"""
#: Rows of one name among which the owner's is looked for.
_MAX_CANDIDATES: Final = 100


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row of the file: the name of its image, and its columns, the name's included."""

    name: str
    columns: Mapping[str, Any]
    position: int = -1
    #: Those of the columns that the command's own values replace.
    own: frozenset[str] = field(default_factory=frozenset)


class FileRows(Statements):
    """The rows, in the database of a journal."""

    def replace(self, rows: Iterable[FileRow]) -> None:
        """Forget the rows, and store others, without owners."""
        with self.lock:
            self._connection.execute("DELETE FROM table_rows")
            self._connection.executemany(
                "INSERT INTO table_rows VALUES (?, ?, NULL, ?, '[]')",
                (
                    (position, _checked_bytes(row.name), json.dumps(row.columns, default=str))
                    for position, row in enumerate(rows)
                ),
            )

    @property
    def any(self) -> bool:
        """True if there are rows."""
        return bool(self._rows("SELECT 1 FROM table_rows LIMIT 1"))

    def of(self, owner: str) -> FileRow | None:
        """Return the row of an item."""
        query = f"SELECT {_COLUMNS} FROM table_rows WHERE owner = ?"
        rows = self._rows(query, (key_bytes(owner),))
        return _file_row(rows[0]) if rows else None

    def free(self, name: str) -> Iterator[FileRow]:
        """Yield rows of a name that nobody owns, the first ones."""
        query = f"SELECT {_COLUMNS} FROM table_rows WHERE name = ? AND owner IS NULL "
        query += "ORDER BY position LIMIT ?"
        return map(_file_row, self._rows(query, (key_bytes(name), _MAX_CANDIDATES)))

    def own(self, row: FileRow, owner: str, own: Iterable[str]) -> None:
        """Give a row to an item, whose own values replace some columns."""
        query = "UPDATE table_rows SET owner = ?, own = ? WHERE position = ?"
        self._run(query, (key_bytes(owner), json.dumps(sorted(own)), row.position))

    def move(self, owner: str, new_owner: str, name: str) -> bool:
        """Give the row of an image that has moved to its new item; False if that has a row."""
        if self.of(new_owner) is not None:
            return False
        query = "UPDATE table_rows SET owner = ?, name = ? WHERE owner = ?"
        self._run(query, (key_bytes(new_owner), key_bytes(name), key_bytes(owner)))
        return True

    def release(self, row: FileRow, columns: Mapping[str, Any]) -> None:
        """Leave a row to the file, with these columns."""
        query = "UPDATE table_rows SET owner = NULL, own = '[]', columns = ? WHERE position = ?"
        self._run(query, (json.dumps(columns, default=str), row.position))

    def delete(self, row: FileRow) -> None:
        """Delete a row."""
        self._run("DELETE FROM table_rows WHERE position = ?", (row.position,))

    def count_free(self) -> int:
        """Count the rows that nobody owns."""
        return int(self._rows("SELECT count(*) FROM table_rows WHERE owner IS NULL")[0][0])

    def others(self) -> Iterator[FileRow]:
        """Yield the rows without an item in the snapshot, in their order, in bounded memory."""
        query = (
            f"SELECT {_COLUMNS} FROM table_rows WHERE position > ? AND "
            "(owner IS NULL OR owner NOT IN (SELECT key FROM snapshot)) ORDER BY position LIMIT ?"
        )
        last = -1
        while rows := self._rows(query, (last, PAGE_ROWS)):
            yield from map(_file_row, rows)
            last = rows[-1][0]


_COLUMNS: Final = "position, name, columns, own"


def _checked_bytes(name: str) -> bytes:
    try:
        return key_bytes(name)
    except UnicodeEncodeError:
        message = f"the table has a name with a lone surrogate, {name!r:.100}: rename it"
        raise InvalidInput(message) from None


def _file_row(row: Any) -> FileRow:
    position, name, columns, own = row
    return FileRow(os.fsdecode(name), json.loads(columns), position, frozenset(json.loads(own)))
