"""Files with a row for each image: JSON Lines, CSV, Parquet, metadata.jsonl and meta_cap.json."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, Final

from ...errors import InvalidInput
from ...image_sources.extras import required
from ...image_sources.options import SourceOptions
from ...image_sources.picture import Picture
from ..storage.item import JournalItem
from ..storage.journal import Journal
from .files import check_replaceable, replaced_file
from .rows import SURROGATES, WRITTEN, json_line, rows_of, text_of

#: Rows of a Parquet file written at once, one row group.
_GROUP_ROWS: Final = 10_000

#: Writes rows, which it may read several times, to a file.
WriteRows = Callable[[IO[bytes], Callable[[], Iterator[dict[str, Any]]]], None]


class TableOutput:
    """One file for all images. It is replaced as a whole, from the journal."""

    has_files = False

    def __init__(
        self, path: str, write_rows: WriteRows, text_column: str, questions: Sequence[str]
    ) -> None:
        self.path = path
        self.text_column = text_column
        self._write_rows = write_rows
        self._questions = questions
        self._journal: Journal | None = None
        self.description = f"table {os.path.abspath(path)} {text_column}"

    def prepare(self, journal: Journal, *, writes: bool) -> None:
        """Import the captions of a file that another program wrote; keep a copy of it."""
        self._journal = journal
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise InvalidInput(f"{self.path}: not a regular file: choose another one with -o")
        if journal.read_meta("imported") is None:
            if os.path.exists(self.path):
                journal.store_previous(self.captions())
                if writes:
                    shutil.copyfile(self.path, f"{self.path}.bak")
            journal.write_meta("imported", "1")
            journal.commit()
        if writes:
            # This shows at once, not after an hour, that the file cannot be written.
            check_replaceable(self.path, journal.identity)

    def captions(self) -> Iterator[tuple[str, str]]:
        """Yield names and captions of the file; raises InvalidInput if it is another one."""
        from ...image_sources.tables import table_pictures

        options = SourceOptions(text_column=self.text_column)
        for picture in table_pictures(self.path, options):
            if picture.caption is not None:
                yield picture.name, picture.caption

    def existing(self, picture: Picture, target: str | None) -> str | None:
        """Return the caption that the file had for this image before the first run."""
        return self._journal.previous(self.name_of(picture)) if self._journal else None

    def name_of(self, picture: Picture) -> str:
        """Return the name of an image in the file."""
        return picture.name

    def target(self, picture: Picture) -> None:
        """Return None: all images share a file."""

    def is_written(self, item: JournalItem) -> bool:
        """Return True: the journal has the text, and each write of the file reads it."""
        return True

    def write(self, item: JournalItem) -> None:
        """Do nothing until the whole file is written."""

    def write_interim(self, journal: Journal) -> None:
        """Write the file."""
        self.write_all(journal)

    def write_all(self, journal: Journal) -> None:
        """Write the file."""
        with replaced_file(self.path, journal.identity) as file:
            self._write_rows(file, lambda: self.rows(journal))

    def rows(self, journal: Journal) -> Iterator[dict[str, Any]]:
        """Yield the rows of the file."""
        return rows_of(journal, self.text_column, self._questions)


class ImageFolderOutput(TableOutput):
    """A `metadata.jsonl` as Hugging Face's ImageFolder reads it: names are relative to it."""

    def __init__(self, path: str, text_column: str, questions: Sequence[str]) -> None:
        super().__init__(path, write_json_lines, text_column, questions)

    def name_of(self, picture: Picture) -> str:
        """Return the path relative to the folder of the file."""
        if picture.path is None:
            return picture.name
        return os.path.relpath(picture.path, os.path.dirname(os.path.abspath(self.path)))

    def rows(self, journal: Journal) -> Iterator[dict[str, Any]]:
        """Yield rows with names relative to the folder of the file."""
        items = journal.items(*WRITTEN)
        for item, row in zip(items, super().rows(journal), strict=True):
            yield {**row, "file_name": self.name_of(item.picture)}


class KohyaOutput(TableOutput):
    """A `meta_cap.json` of kohya's sd-scripts: absolute paths with `caption`.

    Other fields of an existing file, such as tags, are kept.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, self._write, "caption", ())

    def captions(self) -> Iterator[tuple[str, str]]:
        """Yield the names and captions of an existing file."""
        for name, fields in self._read(self.path).items():
            if isinstance(fields, dict) and isinstance(fields.get("caption"), str):
                yield name, fields["caption"]

    def name_of(self, picture: Picture) -> str:
        """Return the absolute path."""
        return picture.path or picture.name

    def rows(self, journal: Journal) -> Iterator[dict[str, Any]]:
        """Yield names and captions: one a line, as sd-scripts reads several (`enable_wildcard`)."""
        for item in journal.items(*WRITTEN):
            yield {"name": self.name_of(item.picture), "caption": "\n".join(item.texts)}

    def _write(self, file: IO[bytes], rows: Callable[[], Iterator[dict[str, Any]]]) -> None:
        backup = f"{self.path}.bak"
        metadata = self._read(backup) if os.path.exists(backup) else {}
        for row in rows():
            fields = metadata.setdefault(row["name"], {})
            fields["caption"] = row["caption"]
        text = json.dumps(metadata, indent=2, ensure_ascii=False)
        file.write(text.encode("utf-8", "backslashreplace"))

    def _read(self, path: str) -> dict[str, Any]:
        try:
            with open(path, encoding="utf-8") as file:
                metadata = json.load(file)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path}: not a meta_cap.json: {error}") from None
        if not isinstance(metadata, dict):
            raise InvalidInput(f"{path}: not a meta_cap.json: no object")
        return metadata


def write_json_lines(file: IO[bytes], rows: Callable[[], Iterator[dict[str, Any]]]) -> None:
    """Write a line of JSON for each row."""
    for row in rows():
        file.write(json_line(row))


def write_csv(
    file: IO[bytes], rows: Callable[[], Iterator[dict[str, Any]]], delimiter: str = ","
) -> None:
    """Write a CSV file in UTF-8; lists and objects are JSON."""
    names = _names(rows())
    text = io.TextIOWrapper(file, "utf-8", SURROGATES, newline="", write_through=True)
    writer = csv.DictWriter(text, list(names), delimiter=delimiter)
    writer.writeheader()
    for row in rows():
        writer.writerow({name: text_of(value) for name, value in row.items()})
    text.flush()
    text.detach()


def write_parquet(file: IO[bytes], rows: Callable[[], Iterator[dict[str, Any]]]) -> None:
    """Write a Parquet file; columns of mixed types, lists and objects are JSON."""
    arrow, parquet = required("pyarrow"), required("pyarrow.parquet")
    types = {bool: arrow.bool_(), int: arrow.int64(), float: arrow.float64()}
    names = _names(rows())
    schema = arrow.schema(
        [(_utf8(name), types.get(kind or str, arrow.string())) for name, kind in names.items()]
    )
    with parquet.ParquetWriter(file, schema) as writer:
        for group in _groups(rows()):
            columns = {
                _utf8(name): [_cell(row.get(name), kind in types) for row in group]
                for name, kind in names.items()
            }
            writer.write_table(arrow.table(columns, schema=schema))


def _names(rows: Iterable[dict[str, Any]]) -> dict[str, type | None]:
    """Return the columns of all rows, in order, each with its type if it has a single one."""
    names: dict[str, type | None] = {"file_name": str}
    for row in rows:
        for name, value in row.items():
            if value is None:
                names.setdefault(name, None)
            elif names.get(name) is None and name in names:
                names[name] = _type_of(value)
            elif names.setdefault(name, _type_of(value)) is not _type_of(value):
                names[name] = object
    return names


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(row)
        if len(group) == _GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _cell(value: Any, is_plain: bool) -> Any:
    if value is None or is_plain:
        return value
    return _utf8(text_of(value))


def _type_of(value: Any) -> type:
    """Return the type of a value's column; a number that 64 bits do not hold is a text."""
    is_large = type(value) is int and not -(1 << 63) <= value < 1 << 63
    return object if is_large else type(value)


def _utf8(text: str) -> str:
    """Return a text as Parquet stores it: in UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
