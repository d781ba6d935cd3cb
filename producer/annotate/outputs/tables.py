"""Files with a row for each image: JSON Lines, CSV and metadata.jsonl."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import IO, Any

from ...contract import ErrorCode
from ...errors import InvalidInput
from ...image_files import file_stamp
from ...image_sources.options import SourceOptions
from ...image_sources.picture import Picture
from ...quantity import quantity
from ..storage.file_rows import FileRow
from ..storage.item import JournalItem
from ..storage.journal import Journal
from .edits import adopt_edits, merged, texts_of_row
from .files import check_replaceable, replaced_file
from .rows import SURROGATES, file_name_of, json_line, row_of, text_of

#: Writes rows, which it may read several times, to a file.
WriteRows = Callable[[IO[bytes], Callable[[], Iterator[dict[str, Any]]]], None]


class TableOutput:
    """One file for all images. It is replaced as a whole, from the journal and its own rows.

    Texts that somebody edited, columns of other programs, and rows of images that a run does not
    see stay in the file.
    """

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

    def prepare(self, journal: Journal, *, writes: bool) -> list[str]:
        """Read the rows of a file that the last run has not left so; keep a copy of a foreign one.

        Returns notes for the user.
        """
        self._journal = journal
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise InvalidInput(f"{self.path}: not a regular file: choose another one with -o")
        notes = self._import(journal, writes=writes)
        if writes:
            # This shows at once, not after an hour, that the file cannot be written.
            check_replaceable(self.path, journal.identity)
        return notes

    def _import(self, journal: Journal, *, writes: bool) -> list[str]:
        notes: list[str] = []
        is_first = journal.read_meta("imported") is None
        if self._is_changed(journal):
            journal.file_rows.replace(self.file_rows())
            edited = adopt_edits(journal, self.name_of)
            if edited:
                notes.append(f"{self.path}: {quantity(edited, 'text')} edited since the last run")
            if is_first and writes:
                notes.append(f"{self.path}: copied to {_back_up(self.path)}")
        journal.write_meta("imported", "1")
        journal.commit()
        return notes

    def _is_changed(self, journal: Journal) -> bool:
        """Return whether there is a file that the last run has not left so."""
        known = ("", journal.read_meta("written"), journal.read_meta("written before"))
        return file_stamp(self.path) not in known

    def file_rows(self) -> Iterator[FileRow]:
        """Yield the rows of the file; raises InvalidInput if it is another one."""
        from ...image_sources.tables import table_pictures

        options = SourceOptions(text_column=self.text_column, by_file_name=True)
        for picture in table_pictures(self.path, options):
            if picture.locator.kind == "error":
                message = f"{picture.name}: {picture.locator.address}"
                raise InvalidInput(f"{message}: mend the line, or choose another file with -o")
            columns = dict(picture.columns)
            if picture.caption is not None:
                columns.pop(self.text_column, None)
            yield FileRow(picture.name, texts_of_row(picture.caption, columns), columns)

    def existing(self, picture: Picture, target: str | None) -> list[str]:
        """Return the texts that others gave the image in the file."""
        row = self._journal.file_rows.get(self.name_of(picture)) if self._journal else None
        return [] if row is None else row.texts

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
        """Write the file."""
        file_rows = journal.file_rows
        if file_rows.any:
            file_rows.claim(self.name_of(item.picture) for item in journal.written())
        with replaced_file(self.path, journal.identity, partial(_note, journal)) as file:
            self._write_rows(file, lambda: self.rows(journal))
        file_rows.settle()
        journal.commit()

    def rows(self, journal: Journal) -> Iterator[dict[str, Any]]:
        """Yield the rows of the journal's images, then the other rows of the file."""
        file_rows = journal.file_rows
        has_rows = file_rows.any
        for item in journal.written():
            row = self.row_of(item)
            name = self.name_of(item.picture)
            row_of_file = file_rows.get(name) if has_rows else None
            yield row if row_of_file is None else merged(row, row_of_file, item.texts)
        if has_rows:
            for row_of_file in file_rows.unclaimed():
                texts = row_of_file.texts
                text = {self.text_column: texts[0]} if texts else {}
                yield {"file_name": row_of_file.name, **row_of_file.columns, **text}

    def row_of(self, item: JournalItem) -> dict[str, Any]:
        """Return the row of an item."""
        return row_of(item, self.text_column, self._questions, os.path.dirname(self.path))


class ImageFolderOutput(TableOutput):
    """A `metadata.jsonl` as Hugging Face's ImageFolder reads it: names are relative to it."""

    def __init__(self, path: str, text_column: str, questions: Sequence[str]) -> None:
        super().__init__(path, write_json_lines, text_column, questions)

    def name_of(self, picture: Picture) -> str:
        """Return the path relative to the folder of the file."""
        return picture.locator.reference_from(os.path.dirname(self.path)) or picture.name

    def target(self, picture: Picture) -> None:
        """Return None; raises InvalidInput for an image that is no local file."""
        check_is_file(picture, self.path)

    def row_of(self, item: JournalItem) -> dict[str, Any]:
        """Return the row of an item, with the name relative to the folder of the file."""
        row = row_of(item, self.text_column, self._questions)
        return {**row, "file_name": self.name_of(item.picture)}


def _back_up(path: str) -> str:
    """Copy a file to a name that is not taken; return it."""
    copy, number = f"{path}.bak", 1
    while os.path.lexists(copy):
        number += 1
        copy = f"{path}.bak{number}"
    shutil.copyfile(path, copy)
    return copy


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


def _note(journal: Journal, part: str) -> None:
    """Store the stamp of a complete file: a later run finds whether somebody changed it."""
    journal.write_meta("written before", journal.read_meta("written") or "")
    journal.write_meta("written", file_stamp(part))
    journal.commit()


def write_json_lines(file: IO[bytes], rows: Callable[[], Iterator[dict[str, Any]]]) -> None:
    """Write a line of JSON for each row."""
    for row in rows():
        file.write(json_line(row))


def write_csv(
    file: IO[bytes], rows: Callable[[], Iterator[dict[str, Any]]], delimiter: str = ","
) -> None:
    """Write a CSV file in UTF-8; lists and objects are JSON."""
    text = io.TextIOWrapper(file, "utf-8", SURROGATES, newline="", write_through=True)
    writer = csv.DictWriter(text, _names(rows()), delimiter=delimiter)
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
