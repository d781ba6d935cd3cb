"""Which uploaded file, and which open page, is whose."""

from __future__ import annotations

from typing import Final, Literal

from ..gateway.lru import LRUCache

#: Things that are remembered at most; who comes back to one that was forgotten uploads it again.
MAX_HELD: Final = 100_000


class Ownership:
    """Files may be several people's, as their path tells what is in them; a page has one owner."""

    def __init__(self) -> None:
        self._files: LRUCache[tuple[str, str], Literal[True]] = LRUCache(MAX_HELD)
        self._pages: LRUCache[str, str] = LRUCache(MAX_HELD)

    def uploaded(self, path: str, name: str) -> None:
        """Somebody uploaded the file that lies at this path."""
        self._files.put((path, name), True)

    def may_read(self, path: str, name: str) -> bool:
        """Whether this is a file that this very name uploaded."""
        return self._files.get((path, name)) is not None

    def may_use(self, page: str, name: str) -> bool:
        """Whether an open page is this name's; nobody's becomes that of who is first."""
        owner = self._pages.get(page)
        if owner is None:
            self._pages.put(page, name)
        return owner in (None, name)
