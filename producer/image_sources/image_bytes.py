"""Bytes of images, read by the producer from files, archives, tables and object stores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from ..contract import MAX_BLOB_BYTES, ErrorCode
from ..errors import InvalidInput
from ..ledger import blobs
from .extras import required
from .picture import Locator
from .rows import ReferenceReader

#: Errors of the reads of one image: operating system, codec and storage libraries.
_READ_ERRORS: Final = (OSError, ValueError, KeyError, IndexError)


class ImageBytes:
    """A reader of images by their locators. It caches one open row group, so read in order."""

    def __init__(self) -> None:
        #: Location of the cached column of a row group, and its values.
        self._cells: tuple[tuple[str, int, str], Any] | None = None

    def read(self, locator: Locator) -> bytes | str:
        """Return the bytes of an image, or the reference that the worker resolves.

        Raises InvalidInput, whose code is one of the contract's.
        """
        if locator.kind == "file":
            # A Path: no name of a local file is taken for a reference.
            return blobs.read(Path(locator.address))
        if locator.kind == "url":
            return blobs.read(locator.address)
        if locator.kind == "error":
            raise InvalidInput(locator.address, ErrorCode(locator.extent[0]))
        try:
            data = self._read_remote(locator)
        except InvalidInput:
            raise
        except Exception as error:
            # Storage libraries raise errors of their own kinds.
            if not isinstance(error, _READ_ERRORS) and locator.kind != "store":
                raise
            message = f"{locator.address}: {type(error).__name__}: {error}"
            raise InvalidInput(message, ErrorCode.IMAGE_UNREACHABLE) from None
        return blobs.read(data)

    def _read_remote(self, locator: Locator) -> bytes | str:
        if locator.kind == "tar":
            offset, size = locator.extent
            with open(locator.address, "rb") as archive:
                archive.seek(offset)
                data = archive.read(min(size, MAX_BLOB_BYTES + 1))
            if len(data) < min(size, MAX_BLOB_BYTES + 1):
                raise ValueError("the archive ends within this image")
            return data
        if locator.kind == "cell":
            cell = self._cell(locator)
            if (path := _path_of(cell)) is None:
                return cell_bytes(cell)
            folder = os.path.dirname(locator.address)
            return self.read(ReferenceReader(locator.address, folder).reference(path).locator)
        with required("fsspec").open(locator.address, "rb") as file:
            return bytes(file.read(MAX_BLOB_BYTES + 1))

    def _cell(self, locator: Locator) -> Any:
        group, row, column = locator.extent
        column_of_group = (locator.address, group, column)
        if self._cells is None or self._cells[0] != column_of_group:
            table = required("pyarrow.parquet").ParquetFile(locator.address)
            self._cells = (column_of_group, table.read_row_group(group, columns=[column]).column(0))
        return self._cells[1][row].as_py()


def _path_of(cell: Any) -> str | None:
    """Return the path of an image that its table does not embed."""
    path = cell.get("path") if isinstance(cell, dict) and cell.get("bytes") is None else None
    return path if isinstance(path, str) else None


def cell_bytes(value: Any) -> bytes:
    """Return the bytes of a cell: binary, or a struct with `bytes` as Hugging Face's Image."""
    if isinstance(value, dict):
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise InvalidInput("the cell has no bytes", ErrorCode.IMAGE_INVALID)
    return value
