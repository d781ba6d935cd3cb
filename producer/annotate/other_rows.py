"""Rows of a table that are of images which a run has not seen."""

from __future__ import annotations

from .outputs.tables import TableOutput
from .parts import RunParts
from .storage.item import JournalItem
from .storage.journal import Journal
from .summary import RunCounts


def drop_rows(parts: RunParts, counts: RunCounts, output: TableOutput) -> None:
    """Drop the rows of images that have moved and, with `prune`, of those that are gone.

    A source without any image, as that of a disk that is not mounted, removes nothing.
    """
    journal = parts.journal
    if parts.is_whole:
        for old, new in journal.moved():
            follow(journal, old, new)
            journal.file_rows.rename(output.name_of(old.picture), output.name_of(new.picture))
            journal.drop(old.picture.key)
    if parts.prune and not counts.seen:
        counts.notes.append("the sources have no image: --prune removes nothing")
    elif parts.prune:
        counts.removed_rows = journal.count_unseen_rows()
        journal.file_rows.delete(output.name_of(item.picture) for item in journal.unseen())
        journal.drop_unseen()


def follow(journal: Journal, old: JournalItem, new: JournalItem) -> None:
    """Give an image that has moved the text that somebody wrote for it."""
    is_edited = bool(old.texts) and old.existing == "\n".join(old.texts)
    if is_edited and new.existing is None:
        journal.adopt_texts(new.picture.key, old.texts)


def count_other_rows(journal: Journal) -> int:
    """Count the rows that stay: of images of the journal, and those of the file alone."""
    return journal.count_unseen_rows() + journal.file_rows.count_unclaimed()
