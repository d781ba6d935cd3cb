"""Caption files beside their images, or in a folder of the same structure."""

from __future__ import annotations

import os

from ...contract import ErrorCode
from ...errors import InvalidInput
from ...image_sources.caption_files import read_caption
from ...image_sources.picture import Picture
from ..storage.item import NO_TEXTS, JournalItem, Texts
from ..storage.journal import Journal
from .files import write_file
from .rows import SURROGATES


class CaptionUnreadable(InvalidInput):
    """The caption file of an image is there, and cannot be read."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = "caption_unreadable"


class SidecarOutput:
    """A text file for each image, one line for each caption.

    Two images of one folder that differ only in their suffix would share a file: the second one's
    file keeps the suffix, ``cat.png.txt``.
    """

    has_files = True
    has_repetitions = False

    def __init__(self, suffix: str, folder: str | None) -> None:
        self._suffix = suffix
        self._folder = folder
        self._journal: Journal | None = None
        self.description = f"sidecars {suffix} {os.path.abspath(folder) if folder else ''}"

    def journal_name(self, folder: str) -> str:
        """Return one name for all: the journal knows the items by their files."""
        return "files"

    def prepare(self, journal: Journal, *, writes: bool) -> list[str]:
        """Remember the journal, which knows the owners of files."""
        self._journal = journal
        return []

    def existing(self, picture: Picture, target: str | None) -> Texts:
        """Return the text of the caption file, if there is one that is not empty.

        Raises CaptionUnreadable.
        """
        try:
            text = None if target is None else read_caption(target)
        except InvalidInput as error:
            raise CaptionUnreadable(str(error)) from None
        return NO_TEXTS if text is None else Texts([text], [])

    def target(self, picture: Picture) -> str:
        """Return the path of the caption file."""
        path = picture.path
        if self._folder is not None:
            path = os.path.join(os.path.abspath(self._folder), relative_name(picture.name))
        if path is None:
            message = f"{picture.name}: no local file: choose a folder for the captions with -o"
            raise InvalidInput(message, ErrorCode.OPTION_INVALID)
        target = os.path.splitext(path)[0] + self._suffix
        if self._journal is None or not is_taken(self._journal, target, picture):
            return target
        if is_taken(self._journal, longer := path + self._suffix, picture):
            raise InvalidInput(f"{longer}: has the captions of another image of this name")
        return longer

    def is_written(self, item: JournalItem) -> bool:
        """Return whether the file is there, and not empty without a reason."""
        try:
            size = os.stat(item.target or "").st_size
        except OSError:
            return False
        return size > 0 or not any(item.texts)

    def write(self, item: JournalItem) -> None:
        """Write the file."""
        assert self._journal is not None
        assert item.target is not None
        data = "".join(f"{text}\n" for text in item.texts).encode("utf-8", SURROGATES)
        write_file(item.target, data, self._journal.identity)

    def write_interim(self, journal: Journal) -> None:
        """Do nothing."""

    def write_all(self, journal: Journal) -> None:
        """Do nothing: each file is written as soon as its texts are there."""


def has_longer_name(item: JournalItem) -> bool:
    """Return whether the caption file of an image keeps its suffix, as another image requires."""
    name = os.path.basename(item.picture.name)
    suffix = os.path.splitext(name)[1]
    return bool(suffix) and os.path.basename(item.target or "").startswith(f"{name}.")


def is_taken(journal: Journal, target: str, picture: Picture) -> bool:
    """Return whether a file belongs to another image, which still exists."""
    owner = journal.owner_of(target)
    return owner not in (None, picture.key) and os.path.exists(owner or "")


def relative_name(name: str) -> str:
    """Return a path that stays below a folder, for the name of an image or for its URL."""
    _, _, path = name.rpartition("://")
    # Not dropped: `../a.png` is another image than `a.png`.
    parts = ["up" if part == ".." else part for part in path.split("/") if part not in ("", ".")]
    return "/".join(parts) or "image"
