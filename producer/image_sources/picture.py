"""An image of a collection: its identity, its location, and the columns that came with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

from ..contract import ErrorCode
from ..errors import InvalidInput
from .image_files import file_stamp

#: Limits of file systems, without the NUL at the end.
_MAX_PATH_BYTES: Final = 4095
_MAX_NAME_BYTES: Final = 255


@dataclass(frozen=True, slots=True)
class Locator:
    """A place from which the bytes of an image can be read again, also by a later process.

    ==========  ====================================  ======================
    kind        address                               extent
    ==========  ====================================  ======================
    ``file``    path                                  none
    ``url``     reference that the worker resolves    none
    ``store``   URL that fsspec opens                 none
    ``tar``     path of the archive                   offset, size
    ``cell``    path of a Parquet file                row group, row, column
    ``error``   message                               error code
    ==========  ====================================  ======================
    """

    kind: Literal["file", "url", "store", "tar", "cell", "error"]
    address: str
    extent: tuple[Any, ...] = ()

    def to_json(self) -> list[Any]:
        """Return a form for the journal."""
        return [self.kind, self.address, *self.extent]

    def reference_from(self, folder: str) -> str | None:
        """Return the image as a table in `folder` names it: a path relative to it, or a URL.

        None for an image within an archive or a table, which no path names.
        """
        if self.kind in ("url", "store"):
            return self.address
        return relative_path(self.address, folder) if self.kind == "file" else None

    @classmethod
    def of_json(cls, value: list[Any]) -> Locator:
        """Read the form of `to_json`."""
        kind, address, *extent = value
        return cls(kind, address, tuple(extent))


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of a collection."""

    #: Identity in the journal, the same in each run: the absolute path, or the file and its row.
    key: str
    #: Name in outputs: the path below the source's folder.
    name: str
    locator: Locator
    #: Changes if the image may have changed; empty: read the image to know.
    stamp: str = ""
    #: Other columns of its row.
    columns: Mapping[str, Any] = field(default_factory=dict)
    #: Caption that the source has for it.
    caption: str | None = None
    #: Number of its line or row; None if it comes from no table.
    number: int | None = None

    @property
    def path(self) -> str | None:
        """The local file, if it is one."""
        return self.locator.address if self.locator.kind == "file" else None

    @property
    def stem(self) -> str:
        """The file name without its suffix."""
        return os.path.splitext(os.path.basename(self.name))[0]


def relative_path(path: str, folder: str) -> str:
    """Return an absolute path relative to a folder, also if that is reached by symbolic links."""
    if (real_folder := _real_path(os.path.abspath(folder))) == os.path.abspath(folder):
        return os.path.relpath(path, real_folder)
    # `..` leaves the target of a link.
    parent, name = os.path.split(path)
    return os.path.relpath(os.path.join(_real_path(parent), name), real_folder)


def path_from(folder: str, reference: str) -> str:
    """Return the path of a reference relative to a folder, the inverse of `relative_path`."""
    if reference.startswith("../"):
        folder = _real_path(os.path.abspath(folder))
    return os.path.join(folder, reference)


@lru_cache(1024)
def _real_path(path: str) -> str:
    return os.path.realpath(path)


def check_path(path: str) -> None:
    """Check that a file can have this path; raises InvalidInput that quotes little of it."""
    if not path:
        raise InvalidInput("the path is empty")
    if "\0" in path:
        raise InvalidInput("the path has a NUL character")
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        raise InvalidInput(f"the path has a lone surrogate: {path!r:.80}") from None
    if max(map(len, encoded.split(b"/"))) > _MAX_NAME_BYTES:
        raise InvalidInput(f"longer than a file name can be: {path!r:.80}")
    if len(encoded) > _MAX_PATH_BYTES:
        raise InvalidInput(f"longer than a path can be: {path!r:.80}")


def file_picture(path: str, name: str) -> Picture:
    """Return the picture of a local file; its errors appear when it is read."""
    absolute = os.path.abspath(path)
    return Picture(absolute, name, Locator("file", absolute), file_stamp(absolute))


def broken_picture(
    name: str,
    message: str,
    code: ErrorCode = ErrorCode.IMAGE_UNREACHABLE,
    *,
    columns: Mapping[str, Any] | None = None,
    number: int | None = None,
) -> Picture:
    """Return a picture in place of a part of a source that cannot be read."""
    locator = Locator("error", message, (code.value,))
    return Picture(f"error:{name}", name, locator, columns=columns or {}, number=number)
