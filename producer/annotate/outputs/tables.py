"""Files with a row for each image: JSON Lines, CSV, metadata.jsonl and meta_cap.json."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

from ...contract import ErrorCode
from ...errors import InvalidInput
from ...image_sources.options import SourceOptions
from ...image_sources.picture import Picture
from ..storage.item import JournalItem
from ..storage.journal import Journal
from .files import check_replaceable, replaced_file
from .rows import SURROGATES, WRITTEN, file_name_of, json_line, row_of, rows_of, text_of

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

        options = SourceOptions(text_column=self.text_column, by_file_name=True)
        for picture in table_pictures(self.path, options):
            if picture.caption is not None:
                yield picture.name, picture.caption

    def existing(self, picture: Picture, target: str | None) -> str | None:
        """Return the caption that the file had for this image before the first run."""
        return self._journal.previous(self.name_of(picture)) if self._journal else None

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
        with replaced_file(self.path, journal.identity) as file:
            self._write_rows(file, lambda: self.rows(journal))

    def rows(self, journal: Journal) -> Iterator[dict[str, Any]]:
        """Yield the rows of the file."""
        return rows_of(journal, self.text_column, self._questions, os.path.dirname(self.path))


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

    def rows(self, journal: Journal) -> Iterator[dict[str, Any]]:
        """Yield rows with names relative to the folder of the file."""
        for item in journal.items(*WRITTEN):
            row = row_of(item, self.text_column, self._questions)
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

    def target(self, picture: Picture) -> None:
        """Return None; raises InvalidInput for an image that is no local file."""
        check_is_file(picture, self.path)

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
