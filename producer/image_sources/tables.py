"""Images of tables: JSON Lines, CSV, TSV and Parquet, with paths, URLs or bytes."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from typing import Any, Final

from ..errors import InvalidInput
from .extras import required
from .lists import list_pictures
from .picture import Locator, Picture, broken_picture
from .rows import ReferenceReader

#: Rows of a Parquet file decoded at once.
_BATCH_ROWS: Final = 1024
#: Columns whose text names an image that is stored as bytes.
_NAME_COLUMNS: Final = ("name", "file_name", "filename", "path", "id", "key", "__key__")


def table_pictures(path: str, image_column: str | None, text_column: str) -> Iterator[Picture]:
    """Yield a picture for each row of a table; raises InvalidInput if it cannot be opened."""
    folder = os.path.dirname(os.path.abspath(path))
    reader = ReferenceReader(path, folder, image_column, text_column)
    suffix = os.path.splitext(path)[1].lower()
    if suffix in (".parquet", ".pq"):
        yield from _parquet(path, reader, text_column)
    elif suffix in (".csv", ".tsv"):
        yield from _csv(path, reader, "\t" if suffix == ".tsv" else ",")
    else:
        try:
            with open(path, "rb") as stream:
                yield from list_pictures(stream, reader)
        except OSError as error:
            raise InvalidInput(f"{path}: {error.strerror}") from None


def _csv(path: str, reader: ReferenceReader, delimiter: str) -> Iterator[Picture]:
    csv.field_size_limit(min(sys.maxsize, 1 << 24))
    try:
        # Paths may contain bytes that are not UTF-8; a byte order mark is Excel's.
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.DictReader(file, delimiter=delimiter)
            column = reader.column_of(list(rows.fieldnames or ()))
            for number, row in enumerate(rows, start=2):
                row.pop(None, None)
                yield reader.row(row, column, number)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None
    except csv.Error as error:
        yield broken_picture(path, f"{path}: {error}")


def _parquet(path: str, reader: ReferenceReader, text_column: str) -> Iterator[Picture]:
    parquet = required("pyarrow.parquet")
    arrow = required("pyarrow")
    try:
        table = parquet.ParquetFile(path)
    except (OSError, arrow.ArrowException) as error:
        raise InvalidInput(f"{path}: {error}") from None
    schema = table.schema_arrow
    column = reader.column_of(schema.names)
    is_binary = _is_binary(schema.field(column).type)
    # Bytes stay in the file until their image is read.
    shown = [
        name for name in schema.names if not _is_binary(schema.field(name).type) or name == column
    ]
    read_names = [name for name in shown if name != column or not is_binary]
    row_number = 0
    for group in range(table.num_row_groups):
        rows_of_group = table.metadata.row_group(group).num_rows
        if not read_names:
            rows: Iterator[dict[str, Any]] = iter({} for _ in range(rows_of_group))
        else:
            rows = _rows(table, group, read_names)
        for row_of_group, row in enumerate(rows):
            row_number += 1
            if not is_binary:
                yield reader.row(row, column, row_number)
                continue
            locator = Locator("cell", os.path.abspath(path), (group, row_of_group, column))
            yield _bytes_picture(path, locator, row, row_number, text_column)


def _rows(table: Any, group: int, names: list[str]) -> Iterator[dict[str, Any]]:
    for batch in table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=names):
        yield from batch.to_pylist()


def _bytes_picture(
    path: str, locator: Locator, row: dict[str, Any], number: int, text_column: str
) -> Picture:
    name = next((str(row[name]) for name in _NAME_COLUMNS if row.get(name)), f"{number - 1:08d}")
    status = os.stat(path)
    stamp = f"{status.st_size}:{status.st_mtime_ns}"
    caption = row.get(text_column)
    caption = caption if isinstance(caption, str) and caption else None
    return Picture(f"{locator.address}\0{number}", name, locator, stamp, row, caption)


def _is_binary(kind: Any) -> bool:
    """Return whether a column has bytes: binary, or Hugging Face's struct of bytes and path."""
    types = required("pyarrow").types
    if types.is_struct(kind):
        return any(kind.field(n).name == "bytes" for n in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))
