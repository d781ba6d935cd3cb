"""The tables of a journal's database."""

from __future__ import annotations

from typing import Final

from . import file_rows
from .item import ItemState

#: Changes with the schema.
VERSION: Final = "2"
#: Condition of items with a row in a table.
IS_WRITTEN: Final = (
    f"(state IN ({ItemState.READY:d}, {ItemState.DONE:d}, {ItemState.SKIPPED:d}) OR texts != '[]')"
)
_ITEM: Final = """(
    key BLOB PRIMARY KEY, run INTEGER, position INTEGER, state INTEGER, recipe TEXT, stamp TEXT,
    content TEXT, name TEXT, locator TEXT, columns TEXT, existing TEXT, target BLOB, texts TEXT,
    code TEXT, message TEXT, questions TEXT
)"""
#: Tables of one output: its items, those of the last write of a table, and the rows of its file.
OUTPUT_TABLES: Final = f"""
CREATE TABLE IF NOT EXISTS items {_ITEM};
CREATE INDEX IF NOT EXISTS items_position ON items (position, key);
CREATE INDEX IF NOT EXISTS items_target ON items (target);
CREATE INDEX IF NOT EXISTS items_unread ON items (stamp) WHERE content = '';
CREATE TABLE IF NOT EXISTS written {_ITEM};
{file_rows.TABLE}"""
#: All tables; those of the other outputs of a journal have names of their own: see `shelf`.
SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    content TEXT, request TEXT, text TEXT, code TEXT, message TEXT,
    PRIMARY KEY (content, request)
) WITHOUT ROWID;
{OUTPUT_TABLES}
CREATE TEMP TABLE IF NOT EXISTS fresh (key BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS snapshot {_ITEM};
CREATE INDEX IF NOT EXISTS temp.snapshot_position ON snapshot (position, key);
CREATE TEMP TABLE IF NOT EXISTS arrived (
    content TEXT, repetition INTEGER, base TEXT, key BLOB PRIMARY KEY
);
CREATE INDEX IF NOT EXISTS temp.arrived_item ON arrived (content, repetition, base);
CREATE TABLE IF NOT EXISTS hashes (
    content TEXT PRIMARY KEY, a INTEGER, b INTEGER, c INTEGER, d INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hashes_a ON hashes (a);
CREATE INDEX IF NOT EXISTS hashes_b ON hashes (b);
CREATE INDEX IF NOT EXISTS hashes_c ON hashes (c);
CREATE INDEX IF NOT EXISTS hashes_d ON hashes (d);
"""
