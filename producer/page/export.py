"""The results of a batch as files: JSONL for programs, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

from ..job import Result

COLUMNS: Final = ("custom_id", "status", "text", "error_code", "error_message")

#: A spreadsheet takes what begins so for a formula, and runs it: a text in a picture, or the name
#: of a file, must not be able to send the table to somebody (OWASP: CSV injection).
#: Some take the full-width forms for the same.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def jsonl_line(result: Result) -> str:
    """One line, as the results file of the CLI has it."""
    return json.dumps(result.to_json(), ensure_ascii=False) + "\n"


def csv_line(result: Result) -> str:
    """One row of COLUMNS."""
    error = result.error
    status = "ok" if error is None else "error"
    said = ("", "") if error is None else (error.code.value, error.message)
    return _row(result.custom_id or "", status, result.text or "", *said)


async def jsonl(results: AsyncIterable[Result]) -> AsyncIterator[str]:
    """A JSONL file, line by line."""
    async for result in results:
        yield jsonl_line(result)


async def table(results: AsyncIterable[Result]) -> AsyncIterator[str]:
    """A CSV file (RFC 4180, UTF-8), row by row, the names of its columns first."""
    yield _row(*COLUMNS)
    async for result in results:
        yield csv_line(result)


def harmless(cell: str) -> str:
    """The cell, with an apostrophe before it where a spreadsheet would take it for a formula."""
    return f"'{cell}" if cell.lstrip(" ").startswith(_FORMULA) else cell


def _row(*cells: str) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([harmless(cell) for cell in cells])
    return line.getvalue()
