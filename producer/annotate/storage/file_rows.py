"""Rows of a table as the last run found them: of other images, and with columns of other programs.

They are read when the file is not as the last run left it. What others wrote stays in the file.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ...errors import InvalidInput
from .item import key_bytes

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS file_rows (
    name BLOB, position INTEGER, texts TEXT, columns TEXT, edits TEXT,
    PRIMARY KEY (name, position)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS file_rows_position ON file_rows (position);
CREATE TEMP TABLE IF NOT EXISTS claimed (name BLOB PRIMARY KEY) WITHOUT ROWID;
"""
#: Rows read at once when all are read.
_PAGE_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row of the file: the name of its image, its texts, and its columns without them."""

    name: str
    #: Empty: no text, or that of the journal.
    texts: list[str]
    columns: Mapping[str, Any] = field(default_factory=dict)
    #: Those of the columns that came from the source, and that somebody edited.
    edits: Mapping[str, Any] = field(default_factory=dict)


class FileRows:
    """The rows, in the database of a journal."""

    def __init__(self, connection: sqlite3.Connection, lock: threading.RLock) -> None:
        self._connection = connection
        self._lock = lock

    def replace(self, rows: Iterable[FileRow]) -> None:
        """Forget the rows, and store others."""
        with self._lock:
            self._connection.execute("DELETE FROM file_rows")
            self._connection.executemany(
                "INSERT OR REPLACE INTO file_rows VALUES (?, ?, ?, ?, '{}')",
                (
                    (
                        _checked_bytes(row.name),
                        position,
                        json.dumps(row.texts),
                        json.dumps(dict(row.columns), default=str),
                    )
                    for position, row in enumerate(rows)
                ),
            )

    def get(self, name: str) -> FileRow | None:
        """Return the row of a name."""
        query = "SELECT name, position, texts, columns, edits FROM file_rows WHERE name = ? "
        query += "ORDER BY position DESC LIMIT 1"
        with self._lock:
            row = self._connection.execute(query, (key_bytes(name),)).fetchone()
        return None if row is None else _file_row(row)

    @property
    def any(self) -> bool:
        """True if there are rows."""
        with self._lock:
            row = self._connection.execute("SELECT 1 FROM file_rows LIMIT 1").fetchone()
        return row is not None

    def clear_texts(self, names: Iterable[str]) -> None:
        """Remove the texts of rows: the journal has them."""
        with self._lock:
            self._connection.executemany(
                "UPDATE file_rows SET texts = '[]' WHERE name = ?",
                ((key_bytes(name),) for name in names),
            )

    def rename(self, name: str, new_name: str) -> None:
        """Give the row of an image that has moved its new name, unless that has a row."""
        if self.get(new_name) is None:
            with self._lock:
                values = (key_bytes(new_name), key_bytes(name))
                self._connection.execute("UPDATE file_rows SET name = ? WHERE name = ?", values)

    def delete(self, names: Iterable[str]) -> None:
        """Delete rows."""
        with self._lock:
            self._connection.executemany(
                "DELETE FROM file_rows WHERE name = ?", ((key_bytes(name),) for name in names)
            )

    def put_edits(self, row: FileRow, edits: Mapping[str, Any]) -> None:
        """Store the edited columns of a row."""
        if edits != row.edits:
            values = (json.dumps(dict(edits), default=str), key_bytes(row.name))
            with self._lock:
                self._connection.execute("UPDATE file_rows SET edits = ? WHERE name = ?", values)

    def claim(self, names: Iterable[str]) -> None:
        """Note the names of all images of the journal; the other rows are those of `unclaimed`."""
        with self._lock:
            self._connection.execute("DELETE FROM claimed")
            self._connection.executemany(
                "INSERT OR IGNORE INTO claimed VALUES (?)", ((key_bytes(name),) for name in names)
            )

    def settle(self) -> None:
        """Remove the texts of claimed rows: the file has those of the journal now."""
        with self._lock:
            self._connection.execute(
                "UPDATE file_rows SET texts = '[]' WHERE name IN (SELECT name FROM claimed)"
            )

    def count_unclaimed(self) -> int:
        """Count the rows of other images."""
        query = "SELECT count(*) FROM file_rows WHERE name NOT IN (SELECT name FROM claimed)"
        with self._lock:
            return int(self._connection.execute(query).fetchone()[0])

    def unclaimed(self) -> Iterator[FileRow]:
        """Yield the rows of other images in their order, in bounded memory."""
        query = (
            "SELECT name, position, texts, columns, edits FROM file_rows WHERE position > ? "
            "AND name NOT IN (SELECT name FROM claimed) ORDER BY position LIMIT ?"
        )
        last = -1
        while True:
            with self._lock:
                rows = self._connection.execute(query, (last, _PAGE_ROWS)).fetchall()
            yield from map(_file_row, rows)
            if len(rows) < _PAGE_ROWS:
                return
            last = rows[-1][1]


def _checked_bytes(name: str) -> bytes:
    try:
        return key_bytes(name)
    except UnicodeEncodeError:
        message = f"the table has a name with a lone surrogate, {name!r:.100}: rename it"
        raise InvalidInput(message) from None


def _file_row(row: Any) -> FileRow:
    name, _, *values = row
    return FileRow(name.decode("utf-8", "surrogateescape"), *map(json.loads, values))
