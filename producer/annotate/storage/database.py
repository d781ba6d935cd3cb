"""The SQLite database of a journal: its schema, and its opening by one process alone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote

from ...errors import InvalidInput
from .migration import migrate
from .schema import SCHEMA, VERSION


def open_database(path: str) -> sqlite3.Connection:
    """Open the database for this process alone; raises InvalidInput."""
    try:
        connection = sqlite3.connect(path, timeout=1.0, check_same_thread=False)
        # Exclusive: a second run of the same command must not write the same files.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        version = _prepare(connection)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            message = "another run of this command is writing it: wait for its end"
        else:
            message = f"{error}: choose another file with --journal"
        raise InvalidInput(f"the journal {path}: {message}") from None
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from None
    if version != VERSION:
        raise InvalidInput(f"the journal {path} is of another version: delete it")
    return connection


def _prepare(connection: sqlite3.Connection) -> str:
    """Create or migrate the tables; return the version of the database."""
    migrate(connection)
    connection.executescript(SCHEMA)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", (VERSION,))
    (version,) = connection.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
    connection.commit()
    return str(version)


def copy_database(path: str) -> sqlite3.Connection:
    """Return a copy of a journal in memory; an empty one if there is none."""
    connection = open_database(":memory:")
    if os.path.exists(path):
        try:
            with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as stored:
                stored.backup(connection)
            _prepare(connection)
        except sqlite3.Error as error:
            raise _damaged(path, error) from None
    return connection


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error means that the file itself is damaged."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextmanager
def damage_reported(path: str) -> Iterator[None]:
    """Turn the damage of a journal that a statement meets into InvalidInput."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        raise _damaged(path, error) from None


def _damaged(path: str, error: sqlite3.Error) -> InvalidInput:
    return InvalidInput(
        f"the journal {path} cannot be read: {error}: delete it, or choose another one with "
        "--journal; captions that are written stay"
    )
