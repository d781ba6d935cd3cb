"""Metadata of kohya's sd-scripts: `meta_cap.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from ...errors import InvalidInput
from ...image_sources.picture import Picture
from ...validation import unique_names
from ..storage.file_rows import FileRow
from ..storage.item import JournalItem, Texts
from .tables import TableOutput, check_is_file, lines_of


class KohyaOutput(TableOutput):
    """A `meta_cap.json`: absolute paths with `caption`; other fields, such as tags, stay."""

    # The file has one entry for a path, and columns of several texts are another program's.
    has_repetitions = False
    several = ()

    def __init__(self, path: str) -> None:
        super().__init__(path, "json", "caption", _write)

    def file_rows(self) -> Iterator[FileRow]:
        """Yield the images of the file."""
        for name, fields in self._read().items():
            if not isinstance(fields, dict):
                raise InvalidInput(f"{self.path}: not a meta_cap.json: {name!r:.100} is no object")
            yield FileRow(name, fields)

    def name_of(self, picture: Picture) -> str:
        """Return the absolute path."""
        return picture.path or picture.name

    def target(self, picture: Picture) -> None:
        """Return None; raises InvalidInput for an image that is no local file."""
        check_is_file(picture, self.path)

    def row_of(self, item: JournalItem) -> dict[str, Any]:
        """Return the fields; captions are one a line, as `enable_wildcard` reads them."""
        return {"caption": "\n".join(item.texts)}

    def texts_of(self, columns: Mapping[str, Any], written: Texts | None) -> Texts:
        """Return the lines of the caption."""
        return lines_of(columns.get("caption"))

    def is_row_of(self, row: FileRow, picture: Picture) -> bool:
        """Return True: the path is the name."""
        return True

    def entry(self, name: str, columns: dict[str, Any]) -> dict[str, Any]:
        """Return an entry of the file."""
        return {"name": name, "fields": columns}

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, encoding="utf-8") as file:
                metadata = json.load(file, object_pairs_hook=unique_names)
        except (OSError, ValueError, RecursionError, InvalidInput) as error:
            raise InvalidInput(f"{self.path}: not a meta_cap.json: {error}") from None
        if not isinstance(metadata, dict):
            raise InvalidInput(f"{self.path}: not a meta_cap.json: no object")
        return metadata


def _write(file: IO[bytes], rows: Callable[[], Iterator[dict[str, Any]]]) -> None:
    metadata = {row["name"]: row["fields"] for row in rows()}
    text = json.dumps(metadata, indent=2, ensure_ascii=False)
    file.write(text.encode("utf-8", "backslashreplace"))
