"""The SQLite database of an index: its schema, and connections for writing and for reading."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ...errors import InvalidInput

NAME: Final = "index.db"
_LOCK_NAME: Final = "lock.db"
#: Changes with the schema.
_VERSION: Final = "1"
#: Seconds to wait for another connection's transaction.
_TIMEOUT_S: Final = 60.0

# AUTOINCREMENT: a graph may contain the numbers of deleted vectors, which must not return.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revisions (revision TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    content TEXT PRIMARY KEY, code TEXT NOT NULL, message TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vectors (
    id INTEGER PRIMARY KEY AUTOINCREMENT, content TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    vector BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS vectors_kind ON vectors (kind, id);
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL, kind TEXT NOT NULL,
    value TEXT NOT NULL, stamp TEXT NOT NULL, content TEXT NOT NULL, source TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_content ON entries (content);
"""


@contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """Hold the index for this process alone during the block; the end of a process releases it.

    Creates the folder. Raises InvalidInput if another process writes the index.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = sqlite3.connect(folder / _LOCK_NAME, timeout=0, isolation_level=None)
    except (OSError, sqlite3.OperationalError) as error:
        raise InvalidInput(
            f"{folder}: cannot be written ({error}): choose another --index"
        ) from None
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        if "locked" in str(error):
            raise InvalidInput(
                f"{folder}: another process writes this index: wait for its end"
            ) from None
        raise InvalidInput(
            f"{folder}: cannot be written ({error}): choose another --index"
        ) from None
    try:
        yield
    finally:
        lock.close()


def open_for_writing(folder: Path) -> sqlite3.Connection:
    """Open the database, and create it if it is missing; raises InvalidInput."""
    path = folder / NAME
    with errors_of(path):
        connection = _configured(sqlite3.connect(path, timeout=_TIMEOUT_S, isolation_level=None))
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", (_VERSION,))
        _check_version(connection, path)
        return connection


def open_for_reading(folder: Path) -> sqlite3.Connection:
    """Open the database of an index, which may be written meanwhile; raises InvalidInput."""
    path = folder / NAME
    if not path.is_file():
        raise InvalidInput(f"{folder}: there is no index; `blipline index` makes one")
    # Readers of a database in WAL mode write a file beside it, unless nobody can change it.
    log = path.with_name(f"{NAME}-wal")
    is_final = not os.access(folder, os.W_OK) and not (log.exists() and log.stat().st_size)
    mode = "immutable=1" if is_final else "mode=ro"
    with errors_of(path):
        uri = f"{path.absolute().as_uri()}?{mode}"
        connection = sqlite3.connect(uri, timeout=_TIMEOUT_S, isolation_level=None, uri=True)
        _check_version(_configured(connection), path)
        return connection


def _configured(connection: sqlite3.Connection) -> sqlite3.Connection:
    # Paths may contain bytes that are not UTF-8.
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    return connection


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    row = connection.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
    if row is None or row[0] != _VERSION:
        raise InvalidInput(f"{path}: written by another version of blipline: delete its folder")


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Raise InvalidInput for a database that is damaged, or that cannot be written."""
    try:
        yield
    except sqlite3.Error as error:
        raise InvalidInput(
            f"{path}: cannot be used as an index: {error}. If the file is damaged, delete its "
            "folder and run `blipline index` again"
        ) from None
