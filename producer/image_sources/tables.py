"""Images of tables: JSON Lines, CSV, TSV and Parquet, with paths, URLs or bytes."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, Literal

from ..errors import InvalidInput
from .arrow_values import batch_rows
from .csv_rows import csv_rows
from .documents import document_rows
from .extras import required
from .forms import form_of
from .image_files import file_stamp
from .lists import list_pictures
from .options import LineFormat, SourceOptions
from .picture import Locator, Picture, broken_picture, path_from
from .rows import IMAGE_COLUMNS, ReferenceReader

#: Rows of a Parquet file decoded at once.
_BATCH_ROWS: Final = 1024
#: Columns whose text names an image that is stored as bytes.
_NAME_COLUMNS: Final = ("name", "file_name", "filename", "path", "id", "key", "__key__")

#: A byte that is not UTF-8, in the file names of Parquet outputs.
_ESCAPED_BYTE: Final = re.compile(r"\\u(dc[89a-f][0-9a-f])")


def table_pictures(path: str, options: SourceOptions) -> Iterator[Picture]:
    """Yield a picture for each row of a table; raises InvalidInput if it cannot be opened."""
    folder = os.path.dirname(os.path.abspath(path))
    form = options.format or form_of(path)
    if form in ("parquet", "json"):
        read = _parquet if form == "parquet" else _document
        yield from read(path, ReferenceReader(path, folder, options))
        return
    line_format = form if form in ("jsonl", "csv", "tsv") else "list"
    try:
        with open(path, "rb") as stream:
            yield from line_pictures(stream, path, folder, line_format, options)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None


def line_pictures(
    stream: BinaryIO,
    origin: str,
    folder: str,
    line_format: LineFormat | Literal["list"],
    options: SourceOptions,
) -> Iterator[Picture]:
    """Yield a picture for each line or row of a stream; raises InvalidInput.

    A list has paths, URLs and JSON objects.
    """
    if line_format in ("jsonl", "list"):
        reader = ReferenceReader(origin, folder, options)
        yield from list_pictures(stream, reader, has_objects=line_format == "jsonl")
    else:
        reader = ReferenceReader(origin, folder, options, header_lines=1)
        yield from _csv(stream, reader, line_format)


def _document(path: str, reader: ReferenceReader) -> Iterator[Picture]:
    for number, (position, row) in enumerate(document_rows(path), start=1):
        yield reader.json_row(row, position, number)


def _csv(stream: BinaryIO, reader: ReferenceReader, form: str) -> Iterator[Picture]:
    is_strict = reader.options.has_texts
    # Paths may contain bytes that are not UTF-8; a byte order mark is Excel's.
    text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
    rows = csv_rows(text, form, strict=is_strict)
    try:
        names = list(rows.fieldnames or ())
        # Spreadsheets write empty columns after the last one.
        reader.check_names(filter(None, names))
        column = reader.column_of(names)
        reader.check_header(names)
        for number, row in enumerate(rows, start=1):
            row.pop(None, None)
            yield reader.row(row, column, number)
    except csv.Error as error:
        if is_strict:
            message = f"{reader.origin}: line {rows.line_num + 1}: not CSV: {error}"
            raise InvalidInput(message) from None
        yield broken_picture(reader.origin, f"{reader.origin}: {error}")
    finally:
        # The caller closes its stream.
        text.detach()


def _parquet(path: str, reader: ReferenceReader) -> Iterator[Picture]:
    parquet = required("pyarrow.parquet")
    arrow = required("pyarrow")
    try:
        table = parquet.ParquetFile(path)
    except (OSError, arrow.ArrowException) as error:
        raise InvalidInput(f"{path}: {error}") from None
    schema = table.schema_arrow
    reader.check_names(schema.names)
    binary = {name for name in schema.names if has_bytes(schema.field(name).type)}
    column = _image_column(schema.names, binary, reader)
    reader.check_header([name for name in schema.names if name not in binary])
    # Bytes stay in the file until their image is read.
    is_binary, stamp = column in binary, file_stamp(path)
    read_names = [name for name in schema.names if name not in binary]
    repeated = _repeated_paths(table, column) if is_binary else None
    if repeated is not None:
        read_names.append(f"{column}.path")
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
                row[column] = _file_name(row[column], reader.folder)
                yield reader.row(row, column, row_number)
                continue
            locator = Locator("cell", os.path.abspath(path), (group, row_of_group, column))
            path_of_image = (row.pop(column, None) or {}).get("path")
            if repeated is None or path_of_image in repeated:
                path_of_image = None
            caption = reader.caption_of(row)
            yield _bytes_picture(locator, row, path_of_image, row_number, stamp, caption)


def _image_column(names: list[str], binary: set[str], reader: ReferenceReader) -> str:
    """Return the image's column. Bytes come before a URL, from which img2dataset fetched them."""
    if reader.options.image_column is None and not reader.options.by_file_name:
        for name in IMAGE_COLUMNS:
            if name in binary:
                return name
    return reader.column_of(names)


def _rows(table: Any, group: int, names: list[str]) -> Iterator[dict[str, Any]]:
    for batch in table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=names):
        yield from batch_rows(batch)


def _file_name(value: Any, folder: str) -> Any:
    """Return a path with the bytes that are not UTF-8, which outputs write as `\\udc80`."""
    if not isinstance(value, str) or not _ESCAPED_BYTE.search(value):
        return value
    path = _ESCAPED_BYTE.sub(lambda match: chr(int(match[1], 16)), value)
    return path if os.path.exists(path_from(folder, path)) else value


def _repeated_paths(table: Any, column: str) -> set[str | None] | None:
    """Return the paths that several images have in Hugging Face's struct; None without paths."""
    kind = table.schema_arrow.field(column).type
    if not required("pyarrow").types.is_struct(kind) or kind.get_field_index("path") < 0:
        return None
    paths = Counter(
        cell["path"] if cell else None
        for batch in table.iter_batches(_BATCH_ROWS, columns=[f"{column}.path"])
        for cell in batch.column(0).to_pylist()
    )
    return {path for path, count in paths.items() if count > 1}


def _bytes_picture(
    locator: Locator,
    row: dict[str, Any],
    path: str | None,
    number: int,
    stamp: str,
    caption: str | None,
) -> Picture:
    names = (*(row.get(name) for name in _NAME_COLUMNS), path)
    name = next((str(name) for name in names if name), f"{number - 1:08d}")
    key = f"{locator.address}\0{number}"
    return Picture(key, name, locator, stamp, row, caption, number)


def has_bytes(kind: Any) -> bool:
    """Return whether a column has bytes, as Hugging Face's struct of bytes and path."""
    types = required("pyarrow").types
    if types.is_struct(kind):
        # Without any image, the type of the field `bytes` is null.
        fields = [kind.field(n) for n in range(kind.num_fields)]
        return any(field.name == "bytes" or has_bytes(field.type) for field in fields)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return has_bytes(kind.value_type)
    if types.is_map(kind):
        return has_bytes(kind.key_type) or has_bytes(kind.item_type)
    if types.is_dictionary(kind):
        return has_bytes(kind.value_type)
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )
