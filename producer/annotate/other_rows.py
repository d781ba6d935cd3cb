"""Rows of a table that are of images which a run has not seen."""

from __future__ import annotations

from .outputs.edits import merged
from .outputs.tables import TableOutput
from .parts import RunParts
from .storage.item import JournalItem, Texts
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
            _move_row(journal, output, old, new)
            journal.drop(old.picture.key)
    if parts.prune and not counts.seen:
        counts.notes.append("the sources have no image: --prune removes nothing")
    elif parts.prune:
        counts.removed_rows = journal.count_unseen_rows()
        for item in journal.unseen():
            if (row := journal.file_rows.of(item.picture.key)) is not None:
                journal.file_rows.delete(row)
        journal.drop_unseen()


def _move_row(journal: Journal, output: TableOutput, old: JournalItem, new: JournalItem) -> None:
    """Give an image that has moved the row of the file; one that has a row leaves it there."""
    key, new_key = old.picture.key, new.picture.key
    row = journal.file_rows.of(key)
    if row is not None and not journal.file_rows.move(key, new_key, output.name_of(new.picture)):
        journal.file_rows.release(row, merged(output.row_of(old), row))
    journal.last_write.move(key, new_key)


def follow(journal: Journal, old: JournalItem, new: JournalItem) -> None:
    """Give an image that has moved the text that somebody wrote for it."""
    is_edited = bool(old.texts) and old.existing == "\n".join(old.texts)
    if is_edited and new.existing is None:
        journal.adopt_texts(new.picture.key, Texts(old.texts, old.questions))


def count_other_rows(journal: Journal) -> int:
    """Count the rows that stay: of images of the journal, and those of the file alone."""
    return journal.count_unseen_rows() + journal.file_rows.count_free()
