"""Columns with any name and any kind of JSON value are in every form of output."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, write_image

NAMES = ("x", "", "a b", "new\nline", "\0", "\ud800", "\udc80", "e\u0301", "texts", "error", "=1")
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -(2**63), 2**63, 10**400, 1.5, float("nan"), float("inf"), "", "a\nb", "\0"),
    *("\ud800", "\udc80", "\udbff\udbff", "e\u0301", "\u202e", [], [float("nan")], {}),
    {"a": {"b": [None, float("-inf"), 2**64, "\ud800"]}},
)
OUTPUTS = ["o.jsonl", "o.csv", "o.tsv", "o.parquet", "o.tar", "metadata.jsonl", "meta_cap.json"]


def strict(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def write_source() -> int:
    """Write a table of images with a column of each name and a row of each value."""
    rows = [{"image": "a.png", **dict.fromkeys(NAMES, value)} for value in VALUES]
    rows += [{"image": "a.png", name: value} for name in NAMES for value in VALUES[3:9]]
    Path("source.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_has_columns_of_any_name_and_value(
    output: str, tmp_path: Path, responder: Responder
) -> None:
    write_image(tmp_path / "a.png", 0)
    rows = write_source()
    assert annotate("source.jsonl", "-o", output) == Exit.OK
    if output.endswith(".jsonl"):
        lines = Path(output).read_text().splitlines()
        values = [json.loads(line, parse_constant=strict) for line in lines]
        assert len(values) == rows
        assert "\ud800" in {row.get("x") for row in values if isinstance(row.get("x"), str)}
    elif output.endswith("sv"):
        with open(output, encoding="utf-8", errors="surrogateescape", newline="") as file:
            table = list(csv.reader(file, delimiter="\t" if output == "o.tsv" else ","))
        assert len(table) == rows + 1
    elif output.endswith(".parquet"):
        assert parquet.read_table(output).num_rows == rows


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_a_column_of_any_value_is_a_prefix(
    value: Any, tmp_path: Path, responder: Responder
) -> None:
    write_image(tmp_path / "a.png", 0)
    Path("source.jsonl").write_text(json.dumps({"image": "a.png", "x": value}))
    assert annotate("source.jsonl", "--prefix", "{x}: ", "-o", "texts/") == Exit.OK
    (file,) = Path("texts").glob("*.txt")
    assert b": picture" in file.read_bytes()
