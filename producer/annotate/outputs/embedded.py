"""Captions within the image files: a copy of each image with a description, or the image itself."""

from __future__ import annotations

import os
from dataclasses import replace

from ...contract import ErrorCode
from ...errors import InvalidInput
from ...image_sources.descriptions.containers import describe, description_of
from ...image_sources.image_bytes import ImageBytes
from ...image_sources.picture import Picture, file_picture
from ..storage.item import NO_TEXTS, JournalItem, Texts
from ..storage.journal import Journal
from .files import FileRejected, write_file
from .sidecars import is_taken, relative_name


class EmbeddedOutput:
    """A description in EXIF and XMP of each image; None as the folder: in the files themselves."""

    has_files = True
    has_repetitions = False

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._reader = ImageBytes()
        self._journal: Journal | None = None
        self.description = f"embedded {os.path.abspath(folder) if folder else ''}"

    def journal_name(self, folder: str) -> str:
        """Return one name for all: the journal knows the items by their files."""
        return "files"

    def prepare(self, journal: Journal, *, writes: bool) -> list[str]:
        """Remember the journal, which knows the owners of files."""
        self._journal = journal
        return []

    def existing(self, picture: Picture, target: str | None) -> Texts:
        """Return the description of the target, else of the image; raises InvalidInput."""
        for path in (target, picture.path):
            try:
                data = self._reader.read(file_picture(path, path).locator) if path else None
            except InvalidInput as error:
                if error.code == ErrorCode.IMAGE_UNREACHABLE and os.path.exists(path or ""):
                    # It may have a description, and must not be replaced.
                    raise
                continue
            if isinstance(data, bytes):
                text = description_of(data)
                return NO_TEXTS if text is None else Texts([text], [])
        return NO_TEXTS

    def target(self, picture: Picture) -> str:
        """Return the file that gets the description."""
        if self._folder is not None:
            copy = os.path.join(os.path.abspath(self._folder), relative_name(picture.name))
            if os.path.realpath(copy) == os.path.realpath(picture.path or ""):
                message = f"{copy}: is the image itself: choose another folder with -o"
                raise InvalidInput(message, ErrorCode.OPTION_INVALID)
            if self._journal is not None and is_taken(self._journal, copy, picture):
                message = f"{copy}: is the copy of another image of this name"
                raise InvalidInput(message, ErrorCode.OPTION_INVALID)
            return copy
        if picture.path is None:
            message = f"{picture.name}: no local file: choose a folder for the copies with -o"
            raise InvalidInput(message, ErrorCode.OPTION_INVALID)
        return picture.path

    def is_written(self, item: JournalItem) -> bool:
        """Return whether the file is there."""
        return os.path.exists(item.target or "")

    def write(self, item: JournalItem) -> None:
        """Write the image with its description."""
        assert self._journal is not None
        assert item.target is not None
        try:
            image = self._reader.read(item.picture.locator)
            if isinstance(image, str):
                raise ValueError("a URL: only local images can get a description")
            data = describe(image, "\n".join(item.texts))
        except (InvalidInput, ValueError) as error:
            raise FileRejected(f"{item.picture.name}: {error}") from None
        write_file(item.target, data, self._journal.identity)
        if self._folder is None:
            # The next run must not take the description for a change of the image.
            stamp = file_picture(item.target, item.picture.name).stamp
            item.picture = replace(item.picture, stamp=stamp)

    def write_interim(self, journal: Journal) -> None:
        """Do nothing."""

    def write_all(self, journal: Journal) -> None:
        """Do nothing: each file is written as soon as its texts are there."""
