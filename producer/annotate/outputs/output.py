"""The interface of outputs."""

from __future__ import annotations

from typing import Protocol

from ...image_sources.picture import Picture
from ..storage.item import JournalItem, Texts
from ..storage.journal import Journal


class Output(Protocol):
    """A form in which captions are stored: a file for each image, or a file for all."""

    #: True if each image has a file of its own, False if all share one.
    has_files: bool
    #: True if each mention of an image in a source has a row, False if an image has one place.
    has_repetitions: bool
    #: Name of the form and of its place, for the digest of a recipe.
    description: str

    def journal_name(self, folder: str) -> str:
        """Return the name of this output in a journal in a folder, which may serve others."""

    def prepare(self, journal: Journal, *, writes: bool) -> list[str]:
        """Read what is there before any work, and check that the output can be written.

        Without `writes`, nothing is written. Returns notes for the user. Raises InvalidInput or
        OutputFailed.
        """

    def existing(self, picture: Picture, target: str | None) -> Texts:
        """Return the texts that an image has in this output; `target` is its file.

        A table gives the image its row, and returns the texts that are not of the journal.
        """

    def target(self, picture: Picture) -> str | None:
        """Return the file of an image's caption; None if all images share a file."""

    def is_written(self, item: JournalItem) -> bool:
        """Return whether the file of an item is there."""

    def write(self, item: JournalItem) -> None:
        """Write the file of an item; raises FileRejected or OutputFailed."""

    def write_interim(self, journal: Journal) -> None:
        """Write the file of all items while the run goes on, if that is cheap."""

    def write_all(self, journal: Journal) -> None:
        """Write the file of all items; raises OutputFailed."""
