"""Rows of a table's file, each as it is there: no column and no value is lost without an error."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from ...errors import InvalidInput
from ...image_sources.arrow_values import batch_rows
from ...image_sources.csv_rows import csv_rows
from ...image_sources.extras import required
from ...image_sources.forms import Form, form_of
from ...image_sources.rows import IMAGE_COLUMNS
from ...image_sources.tables import has_bytes
from ...validation import unique_names
from ..storage.file_rows import FileRow

_REMEDY: Final = "mend it, or choose another file with -o"
#: Columns that name the image of a row, in the order of preference.
_NAMES: Final = ("file_name", *IMAGE_COLUMNS)
#: Rows of a Parquet file decoded at once.
_BATCH_ROWS: Final = 1024

Row = tuple[str, Any]


def table_rows(path: str, form: Form) -> Iterator[FileRow]:
    """Yield the rows of a table; raises InvalidInput that names the line of one that is damaged.

    Its content tells the form, or else `form`.
    """
    form = _form(path, form)
    try:
        if form in ("csv", "tsv"):
            rows = _csv_rows(path, form)
        elif form == "parquet":
            rows = _parquet_rows(path)
        else:
            rows = _json_rows(path, form)
        for position, row in rows:
            yield _file_row(position, row)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None


def _form(path: str, form: Form) -> Form:
    known = form_of(path)
    if known == "tar":
        raise InvalidInput(f"{path}: is an archive, not a table: choose another file with -o")
    return form if known is None or known == "list" else known


def _file_row(position: str, row: Any) -> FileRow:
    if not isinstance(row, dict):
        raise InvalidInput(f"{position}: not an object: {_REMEDY}")
    for column in _NAMES:
        value = row.get(column)
        if isinstance(value, dict):
            # Hugging Face's struct.
            value = value.get("path")
        if isinstance(value, str) and value:
            return FileRow(value, row)
    raise InvalidInput(
        f"{position}: no column has the path or URL of an image (file_name, image, path, …): "
        f"{_REMEDY}"
    )


def _json_rows(path: str, form: Form) -> Iterator[Row]:
    if form == "json":
        with open(path, "rb") as file:
            try:
                document = _value(file.read())
            except InvalidInput:
                document = None
        if isinstance(document, list):
            yield from ((f"{path} entry {n}", row) for n, row in enumerate(document, start=1))
            return
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield f"{path} line {number}", _value(line)
                except InvalidInput as error:
                    message = f"{path} line {number}: {error}: {_REMEDY}"
                    raise InvalidInput(message) from None


def _value(data: bytes) -> Any:
    try:
        text = data.decode("utf-8-sig", "surrogateescape")
        return json.loads(text, object_pairs_hook=unique_names)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"not JSON: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(str(error)) from None


def _csv_rows(path: str, form: Form) -> Iterator[Row]:
    line = 1
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        # Cells, not mappings: several columns of spreadsheets have no name.
        reader = csv_rows(file, form, strict=True).reader
        try:
            names = next(reader, [])
            _check_names(path, filter(None, names))
            if names and not any(name in _NAMES for name in names):
                listed = ", ".join(names)
                raise InvalidInput(
                    f"{path}: no column of an image (file_name, image, path, …) with the "
                    f"delimiter of {form.upper()}: {_REMEDY}; columns: {listed:.400}"
                )
            line = reader.line_num + 1
            for cells in reader:
                if any(cells):
                    yield f"{path} line {line}", _columns(f"{path} line {line}", names, cells)
                line = reader.line_num + 1
        except csv.Error as error:
            message = f"{path} line {line}: not CSV: {error}; does a quotation mark not close?"
            raise InvalidInput(f"{message} {_REMEDY.capitalize()}") from None


def _columns(position: str, names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """Return the cells by their columns; spreadsheets write empty columns after the last one."""
    unnamed = names.count("") > 1
    nameless = [cell for name, cell in zip(names, cells, strict=False) if unnamed and not name]
    if any(cells[len(names) :]) or any(nameless):
        raise InvalidInput(
            f"{position}: {len(cells)} cells, and the header names "
            f"{len(list(filter(None, names)))}; is a delimiter not quoted? {_REMEDY.capitalize()}"
        )
    filled = [*cells, *[""] * (len(names) - len(cells))]
    columns = dict(zip(names, filled, strict=False))
    if unnamed:
        del columns[""]
    return columns


def _parquet_rows(path: str) -> Iterator[Row]:
    arrow, parquet = required("pyarrow"), required("pyarrow.parquet")
    number = 0
    try:
        table = parquet.ParquetFile(path)
        schema = table.schema_arrow
        _check_names(path, schema.names)
        for name in schema.names:
            if has_bytes(schema.field(name).type):
                raise InvalidInput(
                    f"{path}: its column {name!r} has bytes, which would not survive, and another "
                    "program changed the file: move it away, remove the column, or choose another "
                    "output with -o"
                )
        for batch in table.iter_batches(_BATCH_ROWS):
            for row in batch_rows(batch):
                number += 1
                yield f"{path} row {number}", row
    except arrow.ArrowException as error:
        raise InvalidInput(f"{path}: {error}: {_REMEDY}") from None


def _check_names(path: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidInput(f"{path}: two columns are named {name!r:.80}: rename one")
