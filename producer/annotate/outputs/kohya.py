"""Metadata of kohya's sd-scripts: `meta_cap.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import IO, Any

from ...errors import InvalidInput
from ...image_sources.picture import Picture
from ..storage.file_rows import FileRow
from ..storage.journal import Journal
from .tables import TableOutput, check_is_file


class KohyaOutput(TableOutput):
    """A `meta_cap.json`: absolute paths with `caption`; other fields, such as tags, stay."""

    def __init__(self, path: str) -> None:
        super().__init__(path, _write, "caption", ())

    def file_rows(self) -> Iterator[FileRow]:
        """Yield the images of the file."""
        for name, fields in self._read().items():
            if not isinstance(fields, dict):
                raise InvalidInput(f"{self.path}: not a meta_cap.json: {name!r:.100} is no object")
            caption = fields.get("caption")
            texts = caption.split("\n") if isinstance(caption, str) and caption else []
            if texts:
                del fields["caption"]
            yield FileRow(name, texts, fields)

    def name_of(self, picture: Picture) -> str:
        """Return the absolute path."""
        return picture.path or picture.name

    def target(self, picture: Picture) -> None:
        """Return None; raises InvalidInput for an image that is no local file."""
        check_is_file(picture, self.path)

    def rows(self, journal: Journal) -> Iterator[dict[str, Any]]:
        """Yield names and fields; captions are one a line, as `enable_wildcard` reads them."""
        for item in journal.written():
            name = self.name_of(item.picture)
            row_of_file = journal.file_rows.get(name)
            fields = {} if row_of_file is None else row_of_file.columns
            yield {"name": name, "fields": {**fields, "caption": "\n".join(item.texts)}}
        for row in journal.file_rows.unclaimed():
            caption = {"caption": "\n".join(row.texts)} if row.texts else {}
            yield {"name": row.name, "fields": {**row.columns, **caption}}

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, encoding="utf-8") as file:
                metadata = json.load(file)
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidInput(f"{self.path}: not a meta_cap.json: {error}") from None
        if not isinstance(metadata, dict):
            raise InvalidInput(f"{self.path}: not a meta_cap.json: no object")
        return metadata


def _write(file: IO[bytes], rows: Callable[[], Iterator[dict[str, Any]]]) -> None:
    metadata = {row["name"]: row["fields"] for row in rows()}
    text = json.dumps(metadata, indent=2, ensure_ascii=False)
    file.write(text.encode("utf-8", "backslashreplace"))
