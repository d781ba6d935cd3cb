"""An entry of an index: an image or a text, its identity and its location."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ..image_files import file_stamp
from ..ledger import blobs


class Kind(StrEnum):
    """The kind of an entry."""

    IMAGE = "image"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Entry:
    """An image or a text of a collection."""

    #: Identity in the index: the absolute path, the reference, or the hash of the text.
    key: str
    #: Name for people and path filters: the path below the source's folder.
    name: str
    kind: Kind
    #: Absolute path of a file, reference that the worker resolves, or the text itself.
    value: str
    #: Changes if the file may have changed; '': read it to know.
    stamp: str = ""

    @property
    def is_file(self) -> bool:
        """True if it is an image of this host."""
        return self.kind is Kind.IMAGE and not blobs.is_reference(self.value)

    def read(self) -> tuple[str, bytes | str]:
        """Return the hash of the content, and the bytes, reference or text to embed.

        Raises InvalidInput if the file cannot be read.
        """
        if not self.is_file:
            return hash_of(
                f"{self.kind}:{self.value}".encode("utf-8", "surrogateescape")
            ), self.value
        # A Path: no name of a local file is taken for a reference.
        data = blobs.read(Path(self.value))
        return hash_of(data), data


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A part of a source that cannot be read: a file, a folder, or a line."""

    name: str
    message: str
    #: True if entries of the source may be hidden behind it, as below a folder.
    hides_entries: bool = False


def hash_of(data: bytes | str) -> str:
    """Return the SHA-256 of some content."""
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()


def file_entry(path: str, name: str) -> Entry:
    """Return the entry of a local file; its errors appear when it is read."""
    absolute = os.path.abspath(path)
    return Entry(absolute, name, Kind.IMAGE, absolute, file_stamp(absolute))
