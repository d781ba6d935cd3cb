"""Images that have moved: an item whose file is gone, and a new one with the same content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from .item import JournalItem, item_of_row, key_bytes, printable, repetition_of
from .statements import Statements

#: Conditions of a new item, from the strictest on: copies are told apart by their file names.
_CONDITIONS: Final = ("repetition = ? AND base = ?", "repetition = ? AND ? != ''", "? != ?")


class Moves(Statements):
    """The new items of a run, each of which one moved image becomes."""

    def pairs(self, run: int) -> Iterator[tuple[JournalItem, JournalItem]]:
        """Yield items that a run has not seen, and whose file is gone, each with its new item.

        The caller drops each unseen item that it gets.
        """
        self._run("DELETE FROM arrived")
        for item in self._pages("items", "content != '' AND key IN (SELECT key FROM fresh)"):
            key = item.picture.key
            values = (item.content, repetition_of(key), _base_of(key), key_bytes(key))
            self._run("INSERT INTO arrived VALUES (?, ?, ?, ?)", values)
        if self._row("SELECT 1 FROM arrived LIMIT 1"):
            for condition in _CONDITIONS:
                yield from self._pairs(run, condition)

    def _pairs(self, run: int, condition: str) -> Iterator[tuple[JournalItem, JournalItem]]:
        query = f"SELECT key FROM arrived WHERE content = ? AND {condition} LIMIT 1"
        for item in self._pages("items", "run != ?", run):
            path, key = item.picture.path, item.picture.key
            if path is None or not item.content or os.path.exists(path):
                continue
            arrival = self._row(query, (item.content, repetition_of(key), _base_of(key)))
            if arrival is not None:
                self._run("DELETE FROM arrived WHERE key = ?", arrival)
                yield item, item_of_row(self._row("SELECT * FROM items WHERE key = ?", arrival))


def _base_of(key: str) -> str:
    """Return the file name of an item's key, as a text that SQLite compares."""
    return printable(os.path.basename(key.partition("\0")[0])) or ""
