"""Rows of a table that are of images which a run has not seen."""

from __future__ import annotations

from .parts import RunParts
from .storage.journal import Journal
from .summary import RunCounts


def drop_rows(parts: RunParts, counts: RunCounts) -> None:
    """Drop the rows of images that have moved and, with `prune`, of those that are gone.

    A source without any image, as that of a disk that is not mounted, removes nothing.
    """
    if parts.is_whole:
        parts.journal.drop_moved()
    if parts.prune and not counts.seen:
        counts.notes.append("the sources have no image: --prune removes nothing")
    elif parts.prune:
        counts.removed_rows = parts.journal.count_unseen_rows()
        parts.journal.drop_unseen()


def count_other_rows(journal: Journal) -> int:
    """Count the rows that stay: of images of the journal, and those of the file alone."""
    return journal.count_unseen_rows() + journal.file_rows.count_unclaimed()
