"""An entry of an index: an image or a text, its identity and its location."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ..image_sources.image_bytes import ImageBytes
from ..image_sources.image_files import file_stamp
from ..image_sources.picture import Locator
from ..ledger import blobs

#: Beginning of a value that locates an image within an archive, a table or a store.
_LOCATED: Final = "locator:"


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
    #: Absolute path of a file, reference that the worker resolves, the text itself, or the form of
    #: a locator (`value_of`).
    value: str
    #: Changes if the file may have changed; '': read it to know.
    stamp: str = ""

    def read(self, reader: ImageBytes) -> tuple[str, bytes | str]:
        """Return the hash of the content, and the bytes, reference or text to embed.

        Raises InvalidInput if the image cannot be read.
        """
        locator = locator_of(self.kind, self.value)
        if locator is None:
            named = f"{self.kind}:{self.value}".encode("utf-8", "surrogateescape")
            return hash_of(named), self.value
        data = reader.read(locator)
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


def value_of(locator: Locator) -> str:
    """Return the value of an entry whose image the locator finds."""
    if locator.kind in ("file", "url"):
        return locator.address
    return _LOCATED + json.dumps(locator.to_json())


def locator_of(kind: Kind, value: str) -> Locator | None:
    """Return the locator of an image that this process reads; None for a reference and a text."""
    if kind is Kind.TEXT or blobs.is_reference(value):
        return None
    if value.startswith(_LOCATED):
        return Locator.of_json(json.loads(value.removeprefix(_LOCATED)))
    return Locator("file", value)


def file_entry(path: str, name: str) -> Entry:
    """Return the entry of a local file; its errors appear when it is read."""
    absolute = os.path.abspath(path)
    return Entry(absolute, name, Kind.IMAGE, absolute, file_stamp(absolute))
