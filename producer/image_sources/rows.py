"""Rows of tables as pictures: the columns of the image and of its caption."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from ..errors import InvalidInput
from ..ledger.blobs import is_reference
from ..ledger.data_url import is_data_url
from .picture import Locator, Picture, broken_picture, file_picture

#: Columns that hold the image, in the order of preference, if the caller names none.
IMAGE_COLUMNS: Final = (
    "image", "file_name", "path", "image_path", "filepath", "file", "filename", "url", "image_url",
    "img", "jpg", "png", "bytes", "name",
)  # fmt: skip
#: Schemes that fsspec opens in this process; workers open http.
STORE_SCHEMES: Final = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory", "hf")


class ReferenceReader:
    """A reader of rows; relative paths are relative to `folder`."""

    def __init__(
        self,
        origin: str,
        folder: str,
        image_column: str | None = None,
        text_column: str = "",
    ) -> None:
        #: File of the rows, for keys and messages.
        self.origin = origin
        self._folder = folder
        self._image_column = image_column
        self._text_column = text_column

    def column_of(self, names: Sequence[str]) -> str:
        """Return the name of the image's column; raises InvalidInput that lists the columns."""
        if self._image_column is not None:
            if self._image_column in names:
                return self._image_column
        else:
            for name in IMAGE_COLUMNS:
                if name in names:
                    return name
        listed = ", ".join(map(str, names)) or "none"
        raise InvalidInput(
            f"{self.origin}: no column {self._image_column or 'with an image'}: name one with "
            f"--image-column; columns: {listed}"
        )

    def json_line(self, line: bytes, number: int) -> Picture:
        """Return the picture of a line of JSON."""
        try:
            row = json.loads(line.decode("utf-8-sig", "surrogateescape"))
            if not isinstance(row, dict):
                raise ValueError("not an object")
            column = self.column_of(list(row))
            return self.row(row, column, number)
        except (InvalidInput, ValueError, RecursionError) as error:
            return broken_picture(f"{self.origin} line {number}", f"line {number}: {error}")

    def row(self, row: Mapping[str, Any], column: str, number: int) -> Picture:
        """Return the picture of a row whose image is a path or a URL."""
        value = row[column]
        columns = {name: cell for name, cell in row.items() if name != column}
        if isinstance(value, dict) and isinstance(value.get("path"), str):
            value = value["path"]
        if not isinstance(value, str) or not value:
            message = f"line {number}: column {column}: a path or URL is needed, not {value!r:.80}"
            return broken_picture(f"{self.origin} line {number}", message)
        return self.reference(value, columns, number)

    def reference(
        self, text: str, columns: Mapping[str, Any] = MappingProxyType({}), number: int = 0
    ) -> Picture:
        """Return the picture of a path or a URL; a local file of this name comes first."""
        caption = columns.get(self._text_column)
        caption = caption if isinstance(caption, str) and caption else None
        path = os.path.join(self._folder, text)
        scheme = text.partition("://")[0].lower() if "://" in text else ""
        if "\0" in path:
            return broken_picture(f"{self.origin} line {number}", "the path has a NUL character")
        if not os.path.exists(path) and (is_reference(text) or is_data_url(text)):
            kind: Any = "store" if scheme in STORE_SCHEMES else "url"
            name = text if len(text) <= 1000 else f"{self.origin} line {number}"
            return Picture(f"{kind}:{name}", name, Locator(kind, text), "", columns, caption)
        local = file_picture(path, text)
        return Picture(local.key, text, local.locator, local.stamp, columns, caption)
