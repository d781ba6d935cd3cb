"""The results of a batch as files."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Sequence

import pytest

from producer.contract import ErrorCode, ItemError
from producer.job import Result
from producer.page import export


def make_result(text: str | None = None, *, name: str = "a.png", error: str = "") -> Result:
    failed = ItemError(code=ErrorCode.IMAGE_INVALID, message=error) if error else None
    return Result(0, name, text, failed)


def as_csv(results: Sequence[Result]) -> list[list[str]]:
    async def stream() -> AsyncIterator[Result]:
        for result in results:
            yield result

    async def whole() -> str:
        return "".join([line async for line in export.table(stream())])

    text = asyncio.run(whole())
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text[1:], newline="")))


def test_csv_has_a_header_and_a_row_for_each_result() -> None:
    rows = as_csv([make_result("a red circle"), make_result(name="b.png", error="not an image")])
    assert rows == [
        ["custom_id", "status", "text", "error_code", "error_message"],
        ["a.png", "ok", "a red circle", "", ""],
        ["b.png", "error", "", "image_invalid", "not an image"],
    ]


@pytest.mark.parametrize("text", ['say "x", then\ny', "ä; ö", "", "a,b"])
def test_any_text_survives_csv(text: str) -> None:
    assert as_csv([make_result(text)])[1][2] == text


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1"],
)
def test_no_cell_of_csv_is_a_formula(cell: str) -> None:
    (row,) = as_csv([make_result(cell, name=cell)])[1:]
    assert row[0] == row[2] == f"'{cell}"


def test_jsonl_equals_the_results_file_of_the_cli() -> None:
    line = export.jsonl_line(make_result("=größer"))
    assert line.endswith("\n")
    assert json.loads(line) == {"custom_id": "a.png", "status": "ok", "text": "=größer"}
