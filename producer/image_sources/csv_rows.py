"""The one reader of CSV and TSV, and the style in which a spreadsheet wrote a file."""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass
from typing import Final, TextIO

#: Maximum characters of a field: an image as a ``data:`` URL, or a long list of texts.
MAX_FIELD_CHARS: Final = 1 << 27
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
#: Bytes of a header that tell the style.
_HEADER_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class CsvStyle:
    """The style of a CSV file; Excel needs the byte order mark to read UTF-8."""

    delimiter: str
    has_byte_order_mark: bool = False


def csv_rows(text: TextIO, form: str, *, strict: bool = False) -> csv.DictReader[str]:
    """Return a reader of the rows of a table; `form` is csv or tsv.

    The limit of fields is one of the process: each reader sets the same one.
    """
    csv.field_size_limit(MAX_FIELD_CHARS)
    header = text.readline()
    lines = itertools.chain([header], text) if header else text
    return csv.DictReader(lines, delimiter=_delimiter(header, form), strict=strict)


def csv_style(path: str, form: str) -> CsvStyle:
    """Return the style of a file; that of a new one if it is not there."""
    try:
        with open(path, "rb") as file:
            header = file.readline(_HEADER_BYTES)
    except OSError:
        header = b""
    delimiter = _delimiter(header.decode("utf-8", "replace"), form)
    return CsvStyle(delimiter, header.startswith(_BYTE_ORDER_MARK))


def _delimiter(header: str, form: str) -> str:
    """Return the delimiter: Excel writes semicolons where the comma is the decimal separator."""
    if form == "tsv":
        return "\t"
    return ";" if ";" in header and "," not in header else ","
