"""The journal of an output: what was answered, and what was written. A killed run resumes from it.

It is an SQLite database in WAL mode: a process may die at any moment. The answers are stored under
the content of their image, so that moved and duplicate files need no second one. A text is stored
before it is written to its file, so that a repeated write writes the same text.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from .database import copy_database, open_database
from .file_rows import FileRows
from .item import ItemState, JournalItem, StoredAnswer, item_of_row, key_bytes, printable

#: Rows read at once when the whole journal is read.
_PAGE_ROWS: Final = 1000
#: Condition of items with a row in a table.
_IS_WRITTEN: Final = (
    f"(state IN ({ItemState.READY:d}, {ItemState.DONE:d}, {ItemState.SKIPPED:d}) OR texts != '[]')"
)


class Journal:
    """The journal of one output. One process at a time has it open; threads share it."""

    def __init__(self, path: str, *, copy: bool = False) -> None:
        """Open a journal, or create it; a `copy` in memory leaves the file as it is."""
        self.path = path
        #: Guards sequences of calls that must be atomic.
        self.lock = threading.RLock()
        self._connection = copy_database(path) if copy else open_database(path)
        self.run = int(self.read_meta("run") or 0) + 1
        self.write_meta("run", str(self.run))
        if (identity := self.read_meta("id")) is None:
            identity = secrets.token_hex(4)
            self.write_meta("id", identity)
        #: Random name of the journal, for temporary files.
        self.identity = identity
        self.file_rows = FileRows(self._connection, self.lock)
        self.commit()

    def rollback(self) -> None:
        """Undo the changes since the last commit."""
        with self.lock:
            self._connection.rollback()

    def close(self) -> None:
        """Commit and close."""
        with self.lock:
            self.commit()
            self._connection.close()

    def commit(self) -> None:
        """Make the changes survive the end of the process."""
        with self.lock:
            self._connection.commit()

    def read_meta(self, name: str) -> str | None:
        """Return a value that was stored under a name."""
        row = self._row("SELECT value FROM meta WHERE name = ?", (name,))
        return None if row is None else str(row[0])

    def write_meta(self, name: str, value: str) -> None:
        """Store a value under a name."""
        self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def open_batch(self, batch_id: str) -> None:
        """Record a batch before its submission."""
        self._run("INSERT OR IGNORE INTO batches VALUES (?)", (batch_id,))
        self.commit()

    def close_batch(self, batch_id: str) -> None:
        """Forget a batch whose answers are stored."""
        self._run("DELETE FROM batches WHERE id = ?", (batch_id,))

    def open_batches(self) -> list[str]:
        """Return the ids of batches that an earlier run did not read to their end."""
        with self.lock:
            return [row[0] for row in self._connection.execute("SELECT id FROM batches")]

    def answer(self, content: str, request: str) -> StoredAnswer | None:
        """Return the answer to a request about an image."""
        row = self._row(
            "SELECT text, code, message FROM answers WHERE content = ? AND request = ?",
            (content, request),
        )
        return None if row is None else StoredAnswer(*row)

    def store_answer(self, content: str, request: str, answer: StoredAnswer) -> None:
        """Store the answer to a request about an image."""
        self._run(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)",
            (content, request, printable(answer.text), answer.code, printable(answer.message)),
        )

    def forget_failures(self) -> None:
        """Delete the errors, so that their images are tried again."""
        self._run("DELETE FROM answers WHERE code IS NOT NULL")
        self._run("UPDATE items SET recipe = '' WHERE state = ?", (ItemState.FAILED,))

    def item(self, key: str) -> tuple[JournalItem, str] | None:
        """Return an item with the stamp of its image when it was stored."""
        row = self._row("SELECT * FROM items WHERE key = ?", (key_bytes(key),))
        return None if row is None else (item_of_row(row), row[5])

    def store_item(self, item: JournalItem) -> None:
        """Store an item as one of this run."""
        picture = item.picture
        if self.run > 1:
            key = key_bytes(picture.key)
            query = "INSERT OR IGNORE INTO fresh SELECT ? WHERE NOT EXISTS "
            self._run(f"{query}(SELECT 1 FROM items WHERE key = ?)", (key, key))
        self._run(
            "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key_bytes(picture.key),
                self.run,
                item.position,
                item.state,
                item.recipe,
                picture.stamp,
                item.content,
                json.dumps(picture.name),
                json.dumps(picture.locator.to_json()),
                json.dumps(dict(picture.columns), default=str) if picture.columns else "",
                None if item.existing is None else json.dumps(item.existing),
                None if item.target is None else key_bytes(item.target),
                json.dumps(item.texts),
                item.code,
                printable(item.message),
            ),
        )

    def store_texts(self, item: JournalItem) -> None:
        """Store the texts of a stored item, or its error."""
        self._run(
            "UPDATE items SET state = ?, texts = ?, code = ?, message = ? WHERE key = ?",
            (
                item.state,
                json.dumps(item.texts),
                item.code,
                printable(item.message),
                key_bytes(item.picture.key),
            ),
        )

    def mark(self, items: Iterable[JournalItem]) -> None:
        """Store the states of items, their errors, and the stamps of their images."""
        rows = [
            (
                item.state,
                item.code,
                printable(item.message),
                item.picture.stamp,
                key_bytes(item.picture.key),
            )
            for item in items
        ]
        query = "UPDATE items SET state = ?, code = ?, message = ?, stamp = ? WHERE key = ?"
        with self.lock:
            self._connection.executemany(query, rows)

    def owner_of(self, target: str) -> str | None:
        """Return the key of the item that writes a file."""
        row = self._row("SELECT key FROM items WHERE target = ?", (key_bytes(target),))
        return None if row is None else os.fsdecode(row[0])

    def items(self, *states: ItemState) -> Iterator[JournalItem]:
        """Yield the items of these states in the order of the collection, in bounded memory."""
        marks = ", ".join("?" for _ in states)
        return self._pages(f"state IN ({marks})", *states)

    def written(self) -> Iterator[JournalItem]:
        """Yield the items with a row in a table: all but those that never had a text."""
        return self._pages(_IS_WRITTEN)

    def _pages(self, condition: str, *values: int) -> Iterator[JournalItem]:
        # Runs that were interrupted may have given the same position twice.
        query = (
            f"SELECT * FROM items WHERE {condition} AND (position, key) > (?, ?) "
            "ORDER BY position, key LIMIT ?"
        )
        last: tuple[int, bytes] = (-1, b"")
        while True:
            with self.lock:
                rows = self._connection.execute(query, (*values, *last, _PAGE_ROWS)).fetchall()
            yield from map(item_of_row, rows)
            if len(rows) < _PAGE_ROWS:
                return
            last = (rows[-1][2], rows[-1][0])

    def count(self, state: ItemState) -> int:
        """Return the number of items in a state."""
        row = self._row("SELECT count(*) FROM items WHERE state = ?", (state,))
        return int(row[0]) if row else 0

    def unseen(self) -> Iterator[JournalItem]:
        """Yield the items that this run has not seen."""
        return self._pages("run != ?", self.run)

    def moved(self) -> Iterator[tuple[JournalItem, JournalItem]]:
        """Yield unseen items whose file is gone, each with the new item of the same image."""
        with self.lock:
            self._connection.executescript(
                "CREATE TEMP TABLE IF NOT EXISTS arrived (content TEXT, key BLOB);"
                "DELETE FROM arrived;"
                "INSERT INTO arrived SELECT content, key FROM items "
                "WHERE content != '' AND key IN (SELECT key FROM fresh);"
                "CREATE INDEX IF NOT EXISTS arrived_content ON arrived (content);"
            )
        query = (
            "SELECT items.* FROM arrived JOIN items ON items.key = arrived.key "
            "WHERE arrived.content = ? LIMIT 1"
        )
        for item in self.unseen():
            path = item.picture.path
            if path is None or not item.content or os.path.exists(path):
                continue
            row = self._row(query, (item.content,))
            if row is not None:
                yield item, item_of_row(row)

    def drop(self, key: str) -> None:
        """Delete an item."""
        self._run("DELETE FROM items WHERE key = ?", (key_bytes(key),))

    def count_unseen_rows(self) -> int:
        """Count the rows of images that this run has not seen."""
        query = f"SELECT count(*) FROM items WHERE run != ? AND {_IS_WRITTEN}"
        return int(self._row(query, (self.run,))[0])

    def drop_unseen(self) -> None:
        """Delete the items that this run, which read the whole collection, did not see."""
        self._run("DELETE FROM items WHERE run != ?", (self.run,))

    def forget_recipe(self, key: str) -> None:
        """Make the next plan of an item a new one."""
        self._run("UPDATE items SET recipe = '' WHERE key = ?", (key_bytes(key),))

    def adopt_texts(self, key: str, texts: Sequence[str]) -> None:
        """Replace the texts of an item by those that its row of the file has."""
        values = (json.dumps(list(texts)), json.dumps("\n".join(texts)), key_bytes(key))
        self._run("UPDATE items SET texts = ?, existing = ? WHERE key = ?", values)

    def near(self, bands: Sequence[int]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the images whose hash shares one of four bands of 16 bits, with their bands."""
        query = "SELECT content, a, b, c, d FROM hashes WHERE a = ? OR b = ? OR c = ? OR d = ?"
        with self.lock:
            rows = self._connection.execute(query, tuple(bands)).fetchall()
        for content, *bands_of_image in rows:
            yield content, tuple(bands_of_image)

    def store_hash(self, content: str, bands: Sequence[int]) -> None:
        """Store the perceptual hash of an image."""
        self._run("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?)", (content, *bands))

    def _run(self, query: str, values: Sequence[Any] = ()) -> None:
        with self.lock:
            self._connection.execute(query, values)

    def _row(self, query: str, values: Sequence[Any]) -> Any:
        with self.lock:
            return self._connection.execute(query, values).fetchone()
