"""Images that have moved: an item whose file is gone, and a new one with the same content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from ...image_sources.picture import Picture
from .item import ItemState, JournalItem, item_of_row, key_bytes, printable, repetition_of
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

    def unread(self, picture: Picture) -> JournalItem | None:
        """Return the item of an image that no run has read, whose file is gone and became this one.

        Size and time of the file tell it, and its name, or else that no other image has this time.
        """
        key, stamp = picture.key, picture.stamp
        rows = self._rows("SELECT * FROM items WHERE content = '' AND stamp = ?", (stamp,))
        gone = [
            item
            for item in map(item_of_row, rows)
            if item.state is ItemState.SKIPPED
            and repetition_of(item.picture.key) == repetition_of(key)
            and item.picture.path is not None
            and not os.path.exists(item.picture.path)
        ]
        same = [item for item in gone if _base_of(item.picture.key) == _base_of(key)]
        # Archives have whole seconds, which several images share.
        is_precise = not stamp.endswith("000000")
        return next(iter(same), gone[0] if is_precise and len(gone) == 1 else None)


def _base_of(key: str) -> str:
    """Return the file name of an item's key, as a text that SQLite compares."""
    return printable(os.path.basename(key.partition("\0")[0])) or ""
