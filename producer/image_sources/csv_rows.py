"""The one reader of CSV and TSV."""

from __future__ import annotations

import csv
from typing import Final, TextIO

#: Maximum characters of a field: an image as a ``data:`` URL, or a long list of texts.
MAX_FIELD_CHARS: Final = 1 << 27


def csv_rows(text: TextIO, form: str, *, strict: bool = False) -> csv.DictReader[str]:
    """Return a reader of the rows of a table; `form` is csv or tsv.

    The limit of fields is one of the process: each reader sets the same one.
    """
    csv.field_size_limit(MAX_FIELD_CHARS)
    return csv.DictReader(text, delimiter="\t" if form == "tsv" else ",", strict=strict)
