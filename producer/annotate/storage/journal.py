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

from ...image_sources.picture import Picture
from .database import copy_database, open_database
from .file_rows import FileRows
from .item import (
    ItemState,
    JournalItem,
    StoredAnswer,
    Texts,
    item_of_row,
    key_bytes,
    printable,
)
from .last_write import LastWrite
from .moves import Moves
from .schema import IS_WRITTEN
from .shelf import digest_of, take_out
from .statements import Statements


class Journal(Statements):
    """The journal of one output. One process at a time has it open; threads share it."""

    def __init__(self, path: str, *, copy: bool = False) -> None:
        """Open a journal, or create it; a `copy` in memory leaves the file as it is."""
        self.path = path
        database = copy_database(path) if copy else open_database(path)
        super().__init__(database, threading.RLock())
        self.run = int(self.read_meta("run") or 0) + 1
        self.write_meta("run", str(self.run))
        if (identity := self.read_meta("id")) is None:
            identity = secrets.token_hex(4)
            self.write_meta("id", identity)
        #: Random name of the journal, for temporary files.
        self.identity = identity
        self._output = self.read_meta("output") or ""
        self.file_rows = FileRows(database, self.lock)
        self.last_write = LastWrite(database, self.lock)
        self._moves = Moves(database, self.lock)
        self.commit()

    def choose(self, output: str) -> None:
        """Make the items and rows those of an output; the answers are common to all outputs."""
        with self.lock:
            self._output = digest_of(output)
            take_out(self._connection, self._output)

    def rollback(self) -> None:
        """Undo the changes since the last commit."""
        with self.lock:
            self._connection.rollback()

    def close(self) -> None:
        """Commit and close."""
        with self.lock:
            self.commit()
            self._connection.close()

    def read_meta(self, name: str) -> str | None:
        """Return a value that was stored under a name."""
        row = self._row("SELECT value FROM meta WHERE name = ?", (name,))
        return None if row is None else str(row[0])

    def write_meta(self, name: str, value: str) -> None:
        """Store a value under a name."""
        self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def read_state(self, name: str) -> str | None:
        """Return a value of the chosen output."""
        return self.read_meta(f"{name} {self._output}")

    def write_state(self, name: str, value: str) -> None:
        """Store a value of the chosen output."""
        self.write_meta(f"{name} {self._output}", value)

    def open_batch(self, batch_id: str) -> None:
        """Record a batch before its submission."""
        self._run("INSERT OR IGNORE INTO batches VALUES (?)", (batch_id,))
        self.commit()

    def close_batch(self, batch_id: str) -> None:
        """Forget a batch whose answers are stored."""
        self._run("DELETE FROM batches WHERE id = ?", (batch_id,))

    def open_batches(self) -> list[str]:
        """Return the ids of batches that an earlier run did not read to their end."""
        return [row[0] for row in self._rows("SELECT id FROM batches")]

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
            "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                json.dumps(item.questions),
            ),
        )

    def store_texts(self, item: JournalItem) -> None:
        """Store the texts of a stored item, or its error."""
        self._run(
            "UPDATE items SET state = ?, texts = ?, questions = ?, code = ?, message = ? "
            "WHERE key = ?",
            (
                item.state,
                json.dumps(item.texts),
                json.dumps(item.questions),
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
        return self._pages("items", f"state IN ({marks})", *states)

    def written(self) -> Iterator[JournalItem]:
        """Yield the items with a row in a table: all but those that never had a text."""
        return self._pages("items", IS_WRITTEN)

    def items_without_row(self) -> Iterator[JournalItem]:
        """Yield the items that own no row of the file."""
        return self._pages("items", "NOT EXISTS (SELECT 1 FROM table_rows WHERE owner = key)")

    def count(self, state: ItemState) -> int:
        """Return the number of items in a state."""
        row = self._row("SELECT count(*) FROM items WHERE state = ?", (state,))
        return int(row[0]) if row else 0

    def unseen(self) -> Iterator[JournalItem]:
        """Yield the items that this run has not seen."""
        return self._pages("items", "run != ?", self.run)

    def moved(self) -> Iterator[tuple[JournalItem, JournalItem]]:
        """Yield the items of images that have moved, which the caller drops, with the new ones."""
        return self._moves.pairs(self.run)

    def moved_unread(self, picture: Picture) -> JournalItem | None:
        """Return the item of an image that has a caption of others and became a new image."""
        return self._moves.unread(picture) if self.item(picture.key) is None else None

    def drop(self, key: str) -> None:
        """Delete an item."""
        self._run("DELETE FROM items WHERE key = ?", (key_bytes(key),))

    def count_unseen_rows(self) -> int:
        """Count the rows of images that this run has not seen."""
        query = f"SELECT count(*) FROM items WHERE run != ? AND {IS_WRITTEN}"
        return int(self._row(query, (self.run,))[0])

    def drop_unseen(self) -> None:
        """Delete the items that this run, which read the whole collection, did not see."""
        self._run("DELETE FROM items WHERE run != ?", (self.run,))

    def adopt_texts(self, key: str, texts: Texts, recipe: str | None = None) -> None:
        """Replace the texts of an item by those that its row of the file has.

        With a recipe, they are final for it; with an empty one, the next plan is a new one.
        """
        values = (json.dumps(texts.texts), json.dumps(texts.questions), _joined_json(texts))
        query = "UPDATE items SET texts = ?, questions = ?, existing = ?"
        self._run(f"{query} WHERE key = ?", (*values, key_bytes(key)))
        if recipe is not None:
            query = "UPDATE items SET recipe = ?, state = ? WHERE key = ?"
            self._run(query, (recipe, ItemState.DONE, key_bytes(key)))

    def label(self, key: str, questions: Sequence[str]) -> None:
        """Store the questions of an item's texts, as the file has them."""
        values = (json.dumps(list(questions)), key_bytes(key))
        self._run("UPDATE items SET questions = ? WHERE key = ?", values)

    def label_answers(self, recipe: str, questions: Sequence[str]) -> None:
        """Store the questions of texts that an earlier release stored without them."""
        self._run(
            "UPDATE items SET questions = ? WHERE questions IS NULL AND recipe = ? "
            "AND json_array_length(texts) = ?",
            (json.dumps(list(questions)), recipe, len(questions)),
        )

    def near(self, bands: Sequence[int]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the images whose hash shares one of four bands of 16 bits, with their bands."""
        query = "SELECT content, a, b, c, d FROM hashes WHERE a = ? OR b = ? OR c = ? OR d = ?"
        for content, *bands_of_image in self._rows(query, tuple(bands)):
            yield content, tuple(bands_of_image)

    def store_hash(self, content: str, bands: Sequence[int]) -> None:
        """Store the perceptual hash of an image."""
        self._run("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?)", (content, *bands))


def _joined_json(texts: Texts) -> str:
    return json.dumps("\n".join(texts.texts))
