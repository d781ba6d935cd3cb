"""Files with a row for each image: JSON Lines, CSV and metadata.jsonl."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from ...contract import ErrorCode
from ...errors import InvalidInput
from ...image_sources.csv_rows import CsvStyle, csv_style
from ...image_sources.forms import Form
from ...image_sources.image_files import file_stamp
from ...image_sources.picture import Picture, path_from
from ...ledger.blobs import is_reference
from ...quantity import quantity
from ..storage.file_rows import FileRow
from ..storage.item import NO_TEXTS, JournalItem, Texts
from ..storage.journal import Journal
from .edits import (
    SEVERAL,
    adopt_edits,
    best_row,
    check_text,
    free_rows,
    merged,
    own_columns,
    texts_of_row,
)
from .files import back_up, check_replaceable, replaced_file
from .rows import SURROGATES, file_name_of, json_line, json_text, row_of, text_of, utf8_of
from .table_file import table_rows

#: Writes rows, which it may read several times, to a file.
WriteRows = Callable[[IO[bytes], Callable[[], Iterator[dict[str, Any]]]], None]


class TableOutput:
    """One file for all images. It is replaced as a whole, from the journal and its own rows.

    Texts that somebody edited, columns of other programs, and rows of images that a run does not
    see stay in the file.
    """

    has_files = False
    has_repetitions = True
    #: Columns of several texts.
    several: Sequence[str] = SEVERAL

    def __init__(
        self, path: str, form: Form, text_column: str, write_rows: WriteRows | None = None
    ) -> None:
        self.path = path
        self.text_column = text_column
        self._form = form
        self._write_rows = write_rows or self._write_text
        self._journal: Journal | None = None
        #: Stamp of the file as the journal knows it.
        self._stamp = ""
        self.description = f"table {os.path.abspath(path)} {text_column}"

    def journal_name(self, folder: str) -> str:
        """Return the path relative to the journal, with which it may move, and the column."""
        return f"{os.path.relpath(self.path, folder)}\0{self.text_column}"

    def prepare(self, journal: Journal, *, writes: bool) -> list[str]:
        """Read the rows of a file that the last run has not left so; keep a copy of a foreign one.

        Returns notes for the user.
        """
        self._journal = journal
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise InvalidInput(f"{self.path}: not a regular file: choose another one with -o")
        notes: list[str] = []
        is_first = journal.read_state("imported") is None
        self._stamp = journal.read_state("written") or ""
        if self._is_changed(journal):
            if edited := self._import(journal):
                notes.append(f"{self.path}: {quantity(edited, 'text')} edited since the last run")
            if is_first and writes:
                notes.append(f"{self.path}: copied to {back_up(self.path)}")
        journal.write_state("imported", "1")
        journal.commit()
        if writes:
            # This shows at once, not after an hour, that the file cannot be written.
            check_replaceable(self.path, journal.identity)
        return notes

    def _is_changed(self, journal: Journal) -> bool:
        """Return whether there is a file that the journal does not know as it is."""
        return file_stamp(self.path) not in ("", self._stamp)

    def _import(self, journal: Journal) -> int:
        """Read the file, and merge its edits into the journal; return the number of texts."""
        stamp = file_stamp(self.path)
        journal.file_rows.replace(self.file_rows())
        edited = adopt_edits(journal, self)
        self._stamp = stamp
        return edited

    def file_rows(self) -> Iterator[FileRow]:
        """Yield the rows of the file; raises InvalidInput if it is another one, or damaged."""
        return table_rows(self.path, self._form)

    def existing(self, picture: Picture, target: str | None) -> Texts:
        """Give an image its row of the file, if that has no owner yet; return the row's texts."""
        assert self._journal is not None
        file_rows, item = self._journal.file_rows, JournalItem(picture, 0)
        if not file_rows.any or file_rows.of(picture.key) is not None:
            return NO_TEXTS
        row = best_row(self, free_rows(self._journal, self, picture), item)
        if row is None:
            return self._follow(self._journal, picture)
        check_text(self, row)
        file_rows.own(row, picture.key, own_columns(self, row, item, None))
        return self.texts_of(row.columns, None)

    def _follow(self, journal: Journal, picture: Picture) -> Texts:
        """Give an image that has moved the row with the caption of others; return its texts."""
        old = journal.moved_unread(picture)
        if old is None:
            return NO_TEXTS
        journal.file_rows.move(old.picture.key, picture.key, self.name_of(picture))
        journal.last_write.move(old.picture.key, picture.key)
        journal.drop(old.picture.key)
        return Texts(old.texts, old.questions)

    def name_of(self, picture: Picture) -> str:
        """Return the name of an image in the file."""
        return file_name_of(picture)

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
        """Write the file, with the edits that somebody made during the run."""
        if self._is_changed(journal):
            self._import(journal)
        journal.last_write.begin()
        stamps: list[str] = []
        on_complete: Callable[[str], None] = lambda part: stamps.append(file_stamp(part))  # noqa: E731
        with replaced_file(self.path, journal.identity, on_complete) as file:
            self._write_rows(file, lambda: self.rows(journal))
        (self._stamp,) = stamps
        # A process that dies before this finds a file that has the texts of its journal.
        with journal.lock:
            journal.last_write.complete()
            journal.write_state("written", self._stamp)
            journal.commit()

    def rows(self, journal: Journal) -> Iterator[dict[str, Any]]:
        """Yield the rows of the journal's images, then the other rows of the file."""
        file_rows = journal.file_rows
        has_rows = file_rows.any
        for item in journal.last_write.items():
            row = file_rows.of(item.picture.key) if has_rows else None
            ours = self.row_of(item)
            columns = ours if row is None else merged(ours, row)
            yield self.entry(self.name_of(item.picture), columns)
        for row in file_rows.others():
            yield self.entry(row.name, dict(row.columns))

    def _write_text(self, file: IO[bytes], rows: Callable[[], Iterator[dict[str, Any]]]) -> None:
        """Write JSON Lines, or CSV in the style of the file that it replaces."""
        if self._form == "jsonl":
            write_json_lines(file, rows)
        else:
            write_csv(file, rows, csv_style(self.path, self._form))

    def entry(self, name: str, columns: dict[str, Any]) -> dict[str, Any]:
        """Return a row as it is written."""
        return columns

    def row_of(self, item: JournalItem) -> dict[str, Any]:
        """Return the row of an item."""
        return row_of(item, self.text_column, os.path.dirname(self.path))

    def texts_of(self, columns: Mapping[str, Any], written: Texts | None) -> Texts:
        """Return the texts of a row of the file; `written` are those of the last run."""
        return texts_of_row(columns, self.text_column, written)

    def is_row_of(self, row: FileRow, picture: Picture) -> bool:
        """Return False if the `image` of a row is another file that is there."""
        folder, reference = os.path.dirname(self.path), row.columns.get("image")
        own = picture.locator.reference_from(folder)
        if not isinstance(reference, str) or own is None or is_reference(reference):
            return True
        if self.comparable(reference) == self.comparable(own):
            return True
        path = path_from(folder, reference)
        if not reference or "\0" in reference or not os.path.exists(path):
            return True
        return picture.path is not None and os.path.realpath(path) == os.path.realpath(picture.path)

    def comparable(self, value: Any) -> str:
        """Return a value as the file has it, for comparisons; only JSON has types."""
        is_text = self._form in ("csv", "tsv", "parquet")
        return utf8_of(text_of(value) if is_text else json_text(value))


class ImageFolderOutput(TableOutput):
    """A `metadata.jsonl` as Hugging Face's ImageFolder reads it: names are relative to it."""

    def __init__(self, path: str, text_column: str) -> None:
        super().__init__(path, "jsonl", text_column)

    def name_of(self, picture: Picture) -> str:
        """Return the path relative to the folder of the file."""
        return picture.locator.reference_from(os.path.dirname(self.path)) or picture.name

    def target(self, picture: Picture) -> None:
        """Return None; raises InvalidInput for an image that is no local file."""
        check_is_file(picture, self.path)

    def is_row_of(self, row: FileRow, picture: Picture) -> bool:
        """Return True: the path is the name."""
        return True

    def row_of(self, item: JournalItem) -> dict[str, Any]:
        """Return the row of an item, with the name relative to the folder of the file."""
        row = row_of(item, self.text_column)
        return {**row, "file_name": self.name_of(item.picture)}


def lines_of(text: Any) -> Texts:
    """Return the texts of a form that has one in each line."""
    return Texts(text.split("\n"), []) if isinstance(text, str) and text else NO_TEXTS


def check_is_file(picture: Picture, path: str) -> None:
    """Check that a table of image files can name an image; raises InvalidInput."""
    kind = picture.locator.kind
    if kind in ("tar", "cell"):
        raise InvalidInput(
            f"{os.path.basename(path)} names image files, and {picture.name} is within "
            f"{os.path.basename(picture.locator.address)}: choose -o OUT.parquet or -o OUT.tar, "
            "which contain the images",
            ErrorCode.OPTION_INVALID,
        )
    if kind in ("url", "store"):
        raise InvalidInput(
            f"{os.path.basename(path)} names image files, and {picture.name} is no local file: "
            "choose -o OUT.jsonl, or download the images first",
            ErrorCode.OPTION_INVALID,
        )


def write_json_lines(file: IO[bytes], rows: Callable[[], Iterator[dict[str, Any]]]) -> None:
    """Write a line of JSON for each row."""
    for row in rows():
        file.write(json_line(row))


def write_csv(
    file: IO[bytes], rows: Callable[[], Iterator[dict[str, Any]]], style: CsvStyle
) -> None:
    """Write a CSV file in UTF-8; lists and objects are JSON."""
    encoding = "utf-8-sig" if style.has_byte_order_mark else "utf-8"
    text = io.TextIOWrapper(file, encoding, SURROGATES, newline="", write_through=True)
    writer = csv.DictWriter(text, _names(rows()), delimiter=style.delimiter)
    writer.writeheader()
    for row in rows():
        writer.writerow({name: text_of(value) for name, value in row.items()})
    text.flush()
    text.detach()


def _names(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the columns of all rows, in order."""
    names = {"file_name": None}
    for row in rows:
        names |= dict.fromkeys(row)
    return list(names)
