"""The items of a table as they are in its file: those of its last write, and of one in progress."""

from __future__ import annotations

from collections.abc import Iterator

from .item import JournalItem, item_of_row, key_bytes
from .schema import IS_WRITTEN
from .statements import Statements


class LastWrite(Statements):
    """The items of the last write, with which an edit of the file is compared."""

    def begin(self) -> None:
        """Copy the items with a row, from which a table is written while the run goes on."""
        self._run("DELETE FROM snapshot")
        self._run(f"INSERT INTO snapshot SELECT * FROM items WHERE {IS_WRITTEN}")

    def items(self) -> Iterator[JournalItem]:
        """Yield the items of the write in progress, in the order of the collection."""
        return self._pages("snapshot", "1")

    def complete(self) -> None:
        """Make the write in progress the last one."""
        with self.lock:
            self._run("DELETE FROM written")
            self._run("INSERT INTO written SELECT * FROM snapshot")
            self._run("DELETE FROM snapshot")

    def item(self, key: str) -> JournalItem | None:
        """Return an item of the last write."""
        row = self._row("SELECT * FROM written WHERE key = ?", (key_bytes(key),))
        return None if row is None else item_of_row(row)

    def move(self, key: str, new_key: str) -> None:
        """Give an image that has moved what was written for it."""
        values = (key_bytes(new_key), key_bytes(key))
        self._run("UPDATE OR IGNORE written SET key = ? WHERE key = ?", values)
