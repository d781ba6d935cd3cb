"""Which uploaded file, and which open page, is whose."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

#: Things that are remembered at most; who comes back to one that was forgotten uploads it again.
MAX_HELD: Final = 100_000


class Holdings:
    """Files may be several people's, as their path tells what is in them; a page has one owner."""

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._pages: OrderedDict[str, str] = OrderedDict()

    def uploaded(self, path: str, name: str) -> None:
        """Somebody uploaded the file that lies at this path."""
        self._files[path, name] = None
        _forget_oldest(self._files)

    def may_read(self, path: str, name: str) -> bool:
        """Whether this is a file that this very name uploaded."""
        return (path, name) in self._files

    def may_use(self, page: str, name: str) -> bool:
        """Whether an open page is this name's; nobody's becomes that of who is first."""
        owner = self._pages.setdefault(page, name)
        self._pages.move_to_end(page)
        _forget_oldest(self._pages)
        return owner == name


def _forget_oldest(held: OrderedDict[Any, Any]) -> None:
    while len(held) > MAX_HELD:
        held.popitem(last=False)
