"""Tables of every form, read and written as another program does."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet

#: Tables with a row for each mention of an image, named as their source names it.
MENTIONS = ("t.jsonl", "t.csv", "t.tsv", "t.parquet")
TABLES = (*MENTIONS, "p/metadata.jsonl", "t.json")
CAPTION = {"t.json": "caption"}

Row = dict[str, Any]
Rows = dict[str, Row]


def read_list(table: str) -> list[Row]:
    """Return the rows of a table in their order; `file_name` is the path in kohya's form."""
    path = Path(table)
    if path.suffix == ".json":
        document = json.loads(path.read_text())
        return [{"file_name": name, **fields} for name, fields in document.items()]
    if path.suffix == ".parquet":
        rows: list[Row] = parquet.read_table(path).to_pylist()
        return rows
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="", errors="surrogateescape") as file:
        return list(csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t"))


def write_list(table: str, rows: list[Row]) -> None:
    """Write a table anew; each row has all columns, except in JSON."""
    path = Path(table)
    if path.suffix == ".json":
        path.write_text(json.dumps({row.pop("file_name"): row for row in map(dict, rows)}))
        return
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return
    columns = {name: None for row in rows for name in row}
    if path.suffix == ".parquet":
        filled = [{name: row.get(name) for name in columns} for row in rows]
        parquet.write_table(arrow.Table.from_pylist(filled), path)
        return
    with path.open("w", newline="", errors="surrogateescape") as file:
        writer = csv.DictWriter(
            file, list(columns), delimiter="," if path.suffix == ".csv" else "\t"
        )
        writer.writeheader()
        writer.writerows(rows)


def read_rows(table: str) -> Rows:
    """Return the rows of a table by the file name of their image."""
    return {Path(row["file_name"]).name: row for row in read_list(table)}


def edit(table: str, change: Callable[[Rows], None]) -> None:
    """Let another program change the rows of a table, and write it anew."""
    rows = read_rows(table)
    change(rows)
    for name, row in rows.items():
        row.setdefault("file_name", name)
    write_list(table, list(rows.values()))
