"""Statements on the database of a journal, which threads share."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

from .item import JournalItem, item_of_row

#: Rows read at once when a whole table is read.
PAGE_ROWS: Final = 1000


class Statements:
    """A database with its lock."""

    def __init__(self, connection: sqlite3.Connection, lock: threading.RLock) -> None:
        self._connection = connection
        #: Guards sequences of calls that must be atomic.
        self.lock = lock

    def commit(self) -> None:
        """Make the changes survive the end of the process."""
        with self.lock:
            self._connection.commit()

    def _run(self, query: str, values: Sequence[Any] = ()) -> None:
        with self.lock:
            self._connection.execute(query, values)

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self.lock:
            return self._connection.execute(query, values).fetchall()

    def _row(self, query: str, values: Sequence[Any] = ()) -> Any:
        with self.lock:
            return self._connection.execute(query, values).fetchone()

    def _pages(self, table: str, condition: str, *values: int) -> Iterator[JournalItem]:
        """Yield items in the order of the collection, in bounded memory."""
        # Runs that were interrupted may have given the same position twice.
        query = (
            f"SELECT * FROM {table} WHERE {condition} AND (position, key) > (?, ?) "
            "ORDER BY position, key LIMIT ?"
        )
        last: tuple[int, bytes] = (-1, b"")
        while rows := self._rows(query, (*values, *last, PAGE_ROWS)):
            yield from map(item_of_row, rows)
            last = (rows[-1][2], rows[-1][0])
