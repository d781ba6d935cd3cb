"""Owners of uploaded files and of open pages."""

from __future__ import annotations

from typing import Final, Literal

from ..gateway.http.lru import FairLRUCache

#: Maximum entries of each kind. A file whose entry was evicted must be uploaded again.
MAX_ENTRIES: Final = 100_000


class Ownership:
    """Owners by file and by page.

    A file may have several owners, as its path is a hash of its content; a page has one.
    """

    def __init__(self) -> None:
        self._files: FairLRUCache[tuple[str, str], Literal[True]] = FairLRUCache(MAX_ENTRIES)
        self._pages: FairLRUCache[str, str] = FairLRUCache(MAX_ENTRIES)

    def add_file(self, path: str, name: str) -> None:
        """Record that a tenant uploaded the file at this path."""
        self._files.put(name, (path, name), True)

    def may_read(self, path: str, name: str) -> bool:
        """Return whether this tenant uploaded the file."""
        return self._files.get((path, name)) is not None

    def may_use(self, page: str, name: str) -> bool:
        """Return whether this tenant owns the page; its first user becomes its owner."""
        owner = self._pages.get(page)
        if owner is None:
            self._pages.put(name, page, name)
        return owner in (None, name)
