"""Rows of tables as pictures: the columns of the image and of its caption."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from textwrap import shorten
from types import MappingProxyType
from typing import Any, Final

from ..errors import InvalidInput
from ..ledger.blobs import is_reference
from ..ledger.data_url import is_data_url
from ..validation import unique_names
from .options import SourceOptions
from .picture import Locator, Picture, broken_picture, check_path, file_picture, path_from

#: Columns that hold the image, in the order of preference, if the caller names none.
IMAGE_COLUMNS: Final = (
    "image", "file_name", "path", "image_path", "filepath", "file", "filename", "url", "image_url",
    "URL", "img", "jpg", "png", "webp", "bytes", "name",
)  # fmt: skip
#: Columns that hold the text, in the order of preference, if the caller names none.
TEXT_COLUMNS: Final = ("text", "caption", "TEXT", "captions", "texts")
#: Schemes that fsspec opens in this process; workers open http.
STORE_SCHEMES: Final = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory", "hf")


class ReferenceReader:
    """A reader of rows; relative paths are relative to `folder`."""

    def __init__(
        self,
        origin: str,
        folder: str,
        options: SourceOptions = SourceOptions(),  # noqa: B008 - immutable
        *,
        header_lines: int = 0,
    ) -> None:
        #: File of the rows, for keys and messages.
        self.origin = origin
        self.options = options
        self.folder = folder
        self._header_lines = header_lines

    def column_of(self, names: Sequence[str]) -> str:
        """Return the name of the image's column; raises InvalidInput that lists the columns."""
        if self.options.by_file_name and "file_name" in names:
            return "file_name"
        column = _first(names, self.options.image_column, IMAGE_COLUMNS)
        if column is None:
            raise self._no_column("with an image", "--image-column", names)
        return column

    def check_names(self, names: Iterable[str]) -> None:
        """Check that no two columns have one name; raises InvalidInput."""
        for name, count in Counter(names).items():
            if count > 1:
                raise InvalidInput(
                    f"{self.origin}: two columns are named {name!r:.80}: rename or remove one"
                )

    def check_header(self, names: Sequence[str]) -> None:
        """Check that a table has a column of texts, if they are needed; raises InvalidInput."""
        if self.options.has_texts and text_column_of(names, self.options.text_column) is None:
            raise self._no_column("with a text", "--text-column", names)

    def json_line(self, line: bytes, number: int) -> Picture:
        """Return the picture of a line of JSON."""
        hook = unique_names if self.options.has_texts else None
        try:
            row = json.loads(line.decode("utf-8-sig", "surrogateescape"), object_pairs_hook=hook)
        except json.JSONDecodeError as error:
            return self.broken(f"line {number}: not JSON: {error}", number, {})
        except (InvalidInput, ValueError, RecursionError) as error:
            return self.broken(f"line {number}: {error}", number, {})
        return self.json_row(row, f"line {number}", number)

    def json_row(self, row: Any, position: str, number: int) -> Picture:
        """Return the picture of an object; `position` is that of its line or entry."""
        if not isinstance(row, dict):
            return self.broken(f"{position}: not an object", number, {})
        try:
            return self.row(row, self.column_of(list(row)), number)
        except InvalidInput as error:
            return self.broken(f"{position}: {error}", number, row)

    def row(self, row: Mapping[str, Any], column: str, number: int) -> Picture:
        """Return the picture of a row whose image is a path or a URL."""
        value = row[column]
        columns = {name: cell for name, cell in row.items() if name != column}
        if isinstance(value, dict) and isinstance(value.get("path"), str):
            value = value["path"]
        if not isinstance(value, str) or not value:
            line = number + self._header_lines
            message = f"line {line}: column {column}: a path or URL is needed, not {value!r:.80}"
            return self.broken(message, number, columns)
        return self.reference(value, columns, number)

    def reference(
        self, text: str, columns: Mapping[str, Any] = MappingProxyType({}), number: int = 0
    ) -> Picture:
        """Return the picture of a path or a URL; a local file of this name comes first."""
        caption = self.caption_of(columns)
        path = path_from(self.folder, text)
        scheme = text.partition("://")[0].lower() if "://" in text else ""
        if not os.path.exists(path) and (is_reference(text) or is_data_url(text)):
            kind: Any = "store" if scheme in STORE_SCHEMES else "url"
            name = text if len(text) <= 1000 else self._line_name(number)
            locator = Locator(kind, text)
            return Picture(f"{kind}:{name}", name, locator, "", columns, caption, number)
        try:
            check_path(text)
        except InvalidInput as error:
            return self.broken(str(error), number, columns)
        local = file_picture(path, text)
        return Picture(local.key, text, local.locator, local.stamp, columns, caption, number)

    def caption_of(self, columns: Mapping[str, Any]) -> str | None:
        """Return the caption of a row; None without one."""
        column = text_column_of(columns, self.options.text_column)
        caption = None if column is None else columns[column]
        return caption if isinstance(caption, str) and caption else None

    def broken(
        self, message: str, number: int, columns: Mapping[str, Any] | None = None
    ) -> Picture:
        """Return a picture in place of a line that cannot be read."""
        return broken_picture(self._line_name(number), message, columns=columns, number=number)

    def _line_name(self, number: int) -> str:
        return f"{self.origin} line {number + self._header_lines}"

    def _no_column(self, content: str, option: str, names: Sequence[str]) -> InvalidInput:
        is_image = option == "--image-column"
        chosen = self.options.image_column if is_image else self.options.text_column
        listed = shorten(", ".join(map(str, names)) or "none", 400, placeholder=" …")
        return InvalidInput(
            f"{self.origin}: no column {chosen or content}: name one with {option}; columns: "
            f"{listed}"
        )


def text_column_of(names: Container[str], chosen: str | None) -> str | None:
    """Return the name of the text's column; None if there is none."""
    return _first(names, chosen, TEXT_COLUMNS)


def list_of(value: Any) -> Any:
    """Return the value of a column of lists, which are JSON in tables of text."""
    if not isinstance(value, str) or not value.startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def first_of(
    row: Mapping[str, Any], names: Iterable[str], types: tuple[type, ...] = (object,)
) -> Any:
    """Return the first of these values that is there, not empty and of a type; None without one."""
    values = (row.get(name) for name in names)
    return next((v for v in values if v not in (None, "") and isinstance(v, types)), None)


def _first(names: Container[str], chosen: str | None, known: Sequence[str]) -> str | None:
    """Return the chosen column, or the first of the known ones; None if it is not there."""
    candidates = known if chosen is None else (chosen,)
    return next((name for name in candidates if name in names), None)
