"""Several outputs of one journal: each has its items and rows, and all share the answers."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Final

from .item import key_bytes
from .schema import OUTPUT_TABLES

_TABLES: Final = ("items", "written", "table_rows")
_INDEXES: Final = ("items_position", "items_target", "table_rows_name", "table_rows_owner")


def digest_of(output: str) -> str:
    """Return the name of an output in a journal."""
    return hashlib.sha256(key_bytes(output)).hexdigest()[:16]


def take_out(connection: sqlite3.Connection, output: str) -> None:
    """Make the tables of an output the current ones, and put those of another one away."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'output'").fetchone()
    if row is not None and row[0] == output:
        return
    connection.commit()
    connection.execute("BEGIN IMMEDIATE")
    if row is None:
        # An earlier release had one output for a journal.
        query = "UPDATE meta SET name = 'imported ' || ? WHERE name = 'imported'"
        connection.execute(query, (output,))
    else:
        _exchange(connection, row[0], output)
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('output', ?)", (output,))
    connection.commit()


def _exchange(connection: sqlite3.Connection, current: str, output: str) -> None:
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    for index in _INDEXES:
        connection.execute(f"DROP INDEX IF EXISTS {index}")
    for table in _TABLES:
        connection.execute(f"ALTER TABLE {table} RENAME TO {table}_{current}")
        if f"{table}_{output}" in names:
            connection.execute(f"ALTER TABLE {table}_{output} RENAME TO {table}")
    for statement in filter(str.strip, OUTPUT_TABLES.split(";")):
        connection.execute(statement)
