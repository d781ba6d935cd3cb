"""The results of a batch as files: JSONL for programs, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

from ..job import Result

COLUMNS: Final = ("custom_id", "status", "text", "error_code", "error_message")

#: Excel reads a CSV file as UTF-8 only if it begins with a byte order mark.
BOM: Final = "\ufeff"

#: First characters of a cell that spreadsheets run as a formula, including full-width forms. A text
#: in an image or a file name must not make a spreadsheet send its data elsewhere (OWASP: CSV
#: injection).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def jsonl_line(result: Result) -> str:
    """Return a line of JSON, equal to that of the CLI's results file."""
    return json.dumps(result.to_json(), ensure_ascii=False) + "\n"


def csv_line(result: Result) -> str:
    """Return a line of CSV with the fields of COLUMNS."""
    error = result.error
    status = "ok" if error is None else "error"
    error_fields = ("", "") if error is None else (error.code.value, error.message)
    return _csv_line(result.custom_id or "", status, result.text or "", *error_fields)


async def jsonl(results: AsyncIterable[Result]) -> AsyncIterator[str]:
    """Yield the lines of a JSONL file."""
    async for result in results:
        yield jsonl_line(result)


async def table(results: AsyncIterable[Result]) -> AsyncIterator[str]:
    """Yield the lines of a CSV file (RFC 4180, UTF-8), with a header."""
    yield BOM + _csv_line(*COLUMNS)
    async for result in results:
        yield csv_line(result)


def escape_formula(cell: str) -> str:
    """Prefix a cell with an apostrophe if a spreadsheet would run it as a formula."""
    return f"'{cell}" if cell.lstrip(" ").startswith(_FORMULA) else cell


def _csv_line(*cells: str) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([escape_formula(cell) for cell in cells])
    return line.getvalue()
