"""Warnings of entries that failed, the first ones and then their number, and of empty sources."""

from __future__ import annotations

from typing import Final

from .exit_codes import warn
from .single_jobs import escape_controls, printable

#: Lines of a command that can also list all failures in a file.
FIRST_FAILURES: Final = 3


class FailureLines:
    """Warnings of the first failures of a run."""

    def __init__(self, limit: int = FIRST_FAILURES, listing: str = "") -> None:
        """`listing` names the file, or the option, that lists all failures."""
        self._limit = limit
        self._listing = listing
        self._count = 0

    def add(self, name: str, message: str) -> None:
        """Report an entry that failed, and the reason."""
        self._count += 1
        if self._count <= self._limit:
            # Many messages begin with the name themselves.
            warn(f"{printable(name)}: {escape_controls(message.removeprefix(f'{name}: '))}")

    def end(self, total: int | None = None) -> None:
        """Report the number of failures without a line; `total` is that of all, if not counted."""
        total = self._count if total is None else total
        rest = total - min(self._count, self._limit)
        if rest > 0:
            listing = f": {self._listing} lists them" if self._listing else ""
            warn(f"and {rest:,} more failed{listing}")


def warn_if_empty(count: int, noun: str) -> None:
    """Report that the sources have no entries, with the usual reason."""
    if not count:
        warn(
            f"no {noun}; name archives and tables by a pattern, as 'shards/*.tar', not by a folder"
        )
