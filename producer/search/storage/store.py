"""The stored index: entries, vectors, failures and open batches, in transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from ..entry import Entry, Kind
from . import database

#: Vectors read at once.
_BLOCK: Final = 20_000


@dataclass(frozen=True, slots=True)
class StoredFailure:
    """The error of a content that could not be embedded."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class KnownEntry:
    """An entry of an earlier run."""

    id: int
    stamp: str
    content: str
    #: True if its vector is stored.
    embedded: bool
    #: Error of its content; None if it did not fail.
    failure: StoredFailure | None


class IndexStore:
    """A writer of an index. Changes are stored by `commit`; close it with a `with` block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._db = database.open_for_writing(folder)
        # Of this run alone, so that a run without changes writes nothing.
        self._db.execute("CREATE TEMP TABLE seen (id INTEGER PRIMARY KEY)")
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, for reads."""
        return self._db

    def commit(self) -> None:
        """Store all changes since the last call."""
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def meta(self, name: str) -> Any:
        """Read a fact of the index; None if it is unknown."""
        return read_meta(self._db, name)

    def set_meta(self, name: str, value: Any) -> None:
        """Set a fact of the index."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def add_revision(self, revision: str) -> None:
        """Accept vectors of a revision of the model."""
        self._db.execute("INSERT OR IGNORE INTO revisions VALUES (?)", (revision,))

    def batches(self) -> list[str]:
        """Read the ids of batches whose results are not all stored."""
        return [row[0] for row in self._db.execute("SELECT id FROM batches ORDER BY id")]

    def add_batch(self, batch_id: str) -> None:
        """Remember a batch before its submission."""
        self._db.execute("INSERT INTO batches VALUES (?)", (batch_id,))
        self.commit()

    def forget_batch(self, batch_id: str) -> None:
        """Forget a batch whose results are stored."""
        self._db.execute("DELETE FROM batches WHERE id = ?", (batch_id,))
        self.commit()

    def known(self, key: str) -> KnownEntry | None:
        """Read an entry of an earlier run, or of this one."""
        row = self._db.execute(
            "SELECT e.id, e.stamp, e.content, v.id, f.code, f.message FROM entries e "
            "LEFT JOIN vectors v ON v.content = e.content "
            "LEFT JOIN failures f ON f.content = e.content WHERE e.key = CAST(? AS TEXT)",
            (_bytes(key),),
        ).fetchone()
        if row is None:
            return None
        number, stamp, content, vector, *failure = row
        return KnownEntry(number, stamp, content, vector is not None, _failure(*failure))

    def mark_seen(self, number: int) -> None:
        """Note that an entry is still in its source."""
        self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (number,))

    def put(self, entry: Entry, content: str, source: str) -> None:
        """Store an entry, and mark it as seen."""
        values = (_bytes(entry.key), _bytes(entry.name), entry.kind, _bytes(entry.value))
        (number,) = self._db.execute(
            "INSERT INTO entries (key, name, kind, value, stamp, content, source) VALUES "
            "(CAST(? AS TEXT), CAST(? AS TEXT), ?, CAST(? AS TEXT), ?, ?, CAST(? AS TEXT)) "
            "ON CONFLICT (key) DO UPDATE SET name = excluded.name, value = excluded.value, "
            "stamp = excluded.stamp, content = excluded.content, source = excluded.source "
            "RETURNING id",
            (*values, entry.stamp, content, _bytes(source)),
        ).fetchone()
        self.mark_seen(number)

    def has_vector(self, content: str) -> bool:
        """Return whether the vector of a content is stored."""
        query = "SELECT EXISTS (SELECT 1 FROM vectors WHERE content = ?)"
        return bool(self._db.execute(query, (content,)).fetchone()[0])

    def failure(self, content: str) -> StoredFailure | None:
        """Return the error of a content; None if it did not fail."""
        query = "SELECT code, message FROM failures WHERE content = ?"
        row = self._db.execute(query, (content,)).fetchone()
        return None if row is None else StoredFailure(*row)

    def add_vector(self, content: str, kind: Kind, vector: bytes) -> None:
        """Store the vector of a content."""
        self._db.execute(
            "INSERT OR IGNORE INTO vectors (content, kind, vector) VALUES (?, ?, ?)",
            (content, kind, vector),
        )
        self._db.execute("DELETE FROM failures WHERE content = ?", (content,))

    def add_failure(self, content: str, code: str, message: str) -> None:
        """Store the error of a content."""
        self._db.execute(
            "INSERT OR REPLACE INTO failures VALUES (?, ?, CAST(? AS TEXT))",
            (content, code, _bytes(message)),
        )

    def count_entries(self, source: str) -> int:
        """Count the entries of a source."""
        query = "SELECT count(*) FROM entries WHERE source = CAST(? AS TEXT)"
        return int(self._db.execute(query, (_bytes(source),)).fetchone()[0])

    def remove_unseen(self, sources: Sequence[str]) -> int:
        """Remove the entries of these sources that this run has not seen; return their number."""
        return sum(
            self._db.execute(
                "DELETE FROM entries WHERE source = CAST(? AS TEXT) "
                "AND id NOT IN (SELECT id FROM seen)",
                (_bytes(source),),
            ).rowcount
            for source in sources
        )

    def remove_orphans(self) -> None:
        """Remove vectors and failures of contents that no entry has."""
        for table in ("vectors", "failures"):
            self._db.execute(
                f"DELETE FROM {table} WHERE content NOT IN (SELECT content FROM entries)"
            )

    def remove_all_vectors(self) -> None:
        """Remove everything that depends on the model; entries stay."""
        for table in ("vectors", "failures", "revisions", "batches"):
            self._db.execute(f"DELETE FROM {table}")
        self._db.execute("DELETE FROM meta WHERE name <> 'version'")
        self.commit()

    def names_of(self, content: str) -> list[str]:
        """Read the names of the entries with a content."""
        query = "SELECT name FROM entries WHERE content = ? ORDER BY name"
        return [row[0] for row in self._db.execute(query, (content,))]

    def pending(self) -> list[str]:
        """Read the names of entries that have neither a vector nor an error."""
        rows = self._db.execute(
            "SELECT name FROM entries WHERE content NOT IN (SELECT content FROM vectors) "
            "AND content NOT IN (SELECT content FROM failures) ORDER BY name"
        )
        return [row[0] for row in rows]


def read_meta(connection: sqlite3.Connection, name: str) -> Any:
    """Read a fact of the index; None if it is unknown."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else row[0]


def count_vectors(connection: sqlite3.Connection, kind: Kind) -> int:
    """Count the vectors of a kind."""
    query = "SELECT count(*) FROM vectors WHERE kind = ?"
    return int(connection.execute(query, (kind,)).fetchone()[0])


def vector_blocks(
    connection: sqlite3.Connection, kind: Kind, after: int
) -> Iterator[Sequence[tuple[int, bytes]]]:
    """Yield the numbers and vectors of a kind in blocks, after a number, in their order."""
    while True:
        rows = connection.execute(
            "SELECT id, vector FROM vectors WHERE kind = ? AND id > ? ORDER BY id LIMIT ?",
            (kind, after, _BLOCK),
        ).fetchall()
        if not rows:
            return
        yield rows
        after = rows[-1][0]


def _failure(code: str | None, message: str) -> StoredFailure | None:
    return None if code is None else StoredFailure(code, message)


def _bytes(text: str) -> bytes:
    """Return a text as SQLite stores it, with bytes of a path that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def blocks_of(numbers: Iterable[int], size: int = 500) -> Iterator[list[int]]:
    """Yield numbers in blocks that fit into the parameters of a statement."""
    block: list[int] = []
    for number in numbers:
        block.append(number)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block
