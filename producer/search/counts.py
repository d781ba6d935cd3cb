"""The counts of an update of an index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class IndexCounts:
    """The counts of an update so far."""

    #: Entries of the sources.
    entries: int = 0
    #: Entries whose size and time, or whose content, are those of the last run.
    unchanged: int = 0
    #: New and changed entries, also those whose content another entry has.
    changed: int = 0
    #: Contents that workers embedded.
    embedded: int = 0
    #: Entries that left the sources.
    removed: int = 0
    #: Entries that cannot be read or embedded, and sources whose entries are all gone.
    failed: int = 0
    #: Contents that are submitted and have no result yet.
    waiting: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the counts of a finished update."""
        counts = asdict(self)
        del counts["waiting"]
        return counts


#: Receives the counts after each step.
OnCounts = Callable[[IndexCounts], None]
#: Receives the name of an entry that failed, and a message.
OnFailure = Callable[[str, str], None]
