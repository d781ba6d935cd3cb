"""Journals of earlier releases: version 1 knew one row of the file for each name."""

from __future__ import annotations

import sqlite3

from .item import REPETITION, key_bytes
from .schema import IS_WRITTEN, OUTPUT_TABLES, VERSION


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database of version 1 to this one. The rows of its file are read again."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        return
    version = connection.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
    if version is None or version[0] != "1":
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ALTER TABLE items ADD COLUMN questions TEXT")
    _number_repetitions(connection)
    for statement in filter(str.strip, OUTPUT_TABLES.split(";")):
        connection.execute(statement)
    connection.execute(f"INSERT INTO written SELECT * FROM items WHERE {IS_WRITTEN}")
    connection.execute("DROP TABLE IF EXISTS file_rows")
    connection.execute("DELETE FROM meta WHERE name IN ('written', 'written before')")
    connection.execute("UPDATE meta SET value = ? WHERE name = 'version'", (VERSION,))
    connection.commit()


def _number_repetitions(connection: sqlite3.Connection) -> None:
    """Number the further mentions of an image, whose keys ended with their position."""
    separator, numbers = key_bytes(REPETITION), dict[bytes, int]()
    query = "SELECT key FROM items WHERE instr(key, x'00') ORDER BY position"
    for (key,) in connection.execute(query).fetchall():
        image, _, position = key.rpartition(b"\0")
        is_image = connection.execute("SELECT 1 FROM items WHERE key = ?", (image,)).fetchone()
        if position.isdigit() and is_image:
            numbers[image] = number = numbers.get(image, 0) + 1
            new_key = image + separator + str(number).encode()
            connection.execute("UPDATE items SET key = ? WHERE key = ?", (new_key, key))
