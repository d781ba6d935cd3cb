"""Tar archives as WebDataset reads them: image, caption and columns of a sample share a key."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final

from ...errors import InvalidInput
from ...image_sources.image_bytes import ImageBytes
from ...image_sources.image_files import file_stamp
from ..storage.file_rows import FileRow
from ..storage.item import JournalItem, Texts
from ..storage.journal import Journal
from .files import back_up, replaced_file
from .remaining_images import check_images_remain
from .rows import json_line, row_of
from .tables import TableOutput, lines_of

#: Samples of an archive, if the name has a number (`%06d`).
SHARD_SAMPLES: Final = 10_000
#: Bytes of images after which an archive is complete, if the name has a number.
SHARD_BYTES: Final = 1 << 30
_NUMBER: Final = re.compile(r"%0?\d*d")
#: Suffixes of images by their first bytes, if the name has none.
_MAGIC: Final = (
    (b"\xff\xd8", "jpg"),
    (b"\x89PNG", "png"),
    (b"GIF8", "gif"),
    (b"RIFF", "webp"),
    (b"BM", "bmp"),
)


class WebDatasetOutput(TableOutput):
    """Archives of samples: ``00000012.jpg``, ``.txt`` and ``.json``, with the file's name in JSON.

    The keys are numbers: names may have dots, at which readers of WebDataset split them. A number
    in the file's name, as ``out-%06d.tar``, makes shards.
    """

    def __init__(self, path: str, text_column: str) -> None:
        super().__init__(path, "tar", text_column, lambda file, rows: None)
        self._reader = ImageBytes()
        self._numbers = itertools.count()
        #: Stamps of the archives by their names, as this run has written them.
        self._stamps: dict[str, str] = {}

    def prepare(self, journal: Journal, *, writes: bool) -> list[str]:
        """See `TableOutput.prepare`; raises InvalidInput if there are shards of others."""
        first = self._shard(0)
        if first != self.path and journal.read_state("imported") is None and os.path.exists(first):
            raise InvalidInput(
                f"{first} is there, and the journal {journal.path} does not know it: move the "
                "shards away, or choose another output with -o"
            )
        is_of_others = self._is_changed(journal)
        notes = super().prepare(journal, writes=writes)
        if is_of_others and writes:
            notes.append(f"{self.path}: samples of images outside this run stay in the copy alone")
        return [*notes, *self._keep_edited(journal)] if writes else notes

    def _keep_edited(self, journal: Journal) -> list[str]:
        """Copy the archives that another program changed since the last write; return notes."""
        stamps, notes = _stamps_of(journal, "written"), []
        # A run that failed or died has replaced some archives, and perhaps not the last of these.
        unfinished = _stamps_of(journal, "writing")
        for name in stamps | unfinished:
            path = os.path.join(os.path.dirname(self.path), name)
            own = ("", stamps.get(name), unfinished.get(name))
            if (changed := file_stamp(path)) not in own:
                notes.append(
                    f"{path}: another program changed it, and edits within archives are not read: "
                    f"copied to {back_up(path)}"
                )
                stamps[name] = changed
        journal.write_state("written", json.dumps(stamps))
        return notes

    def _is_changed(self, journal: Journal) -> bool:
        # Only the journal knows the images of later runs.
        return journal.read_state("imported") is None and os.path.exists(self.path)

    def file_rows(self) -> Iterator[FileRow]:
        """Yield the names and captions of an existing archive."""
        from ...image_sources.archives import tar_pictures

        for picture in tar_pictures(self.path):
            if picture.caption is not None:
                name = str(picture.columns.get("file_name", picture.name))
                yield FileRow(name, {self.text_column: picture.caption})

    def texts_of(self, columns: Mapping[str, Any], written: Texts | None) -> Texts:
        """Return the lines of the caption."""
        return lines_of(columns.get(self.text_column))

    def write_interim(self, journal: Journal) -> None:
        """Do nothing: the images would be copied again each time."""

    def write_all(self, journal: Journal) -> None:
        """Write the archives; raises OutputFailed, and InvalidInput for an image without bytes."""
        check_images_remain(journal, self.path, ("file", "tar", "cell"))
        # A program may have changed them during the run.
        self._keep_edited(journal)
        self._stamps = {}
        # Positions of several runs are not unique.
        self._numbers = itertools.count()
        if _NUMBER.search(self.path) is None:
            self._write_shard(self.path, journal, journal.written(), endless=True)
        else:
            self._write_shards(journal)
        # The archive has no rows of others.
        journal.file_rows.replace(())
        journal.write_state("written", json.dumps(self._stamps))
        journal.write_state("writing", "")
        journal.commit()

    def _write_shards(self, journal: Journal) -> None:
        items = _Peekable(journal.written())
        number = 0
        while items.has_next or number == 0:
            self._write_shard(self._shard(number), journal, items, endless=False)
            number += 1
        self._remove_shards(number)

    def _write_shard(
        self, path: str, journal: Journal, items: Iterator[JournalItem], *, endless: bool
    ) -> None:
        samples = size_bytes = 0

        def on_complete(part: str) -> None:
            stamp = {os.path.basename(path): file_stamp(part)}
            self._stamps |= stamp
            journal.write_state("writing", json.dumps(_stamps_of(journal, "writing") | stamp))
            journal.commit()

        with ExitStack() as stack:
            file = stack.enter_context(replaced_file(path, journal.identity, on_complete))
            archive = stack.enter_context(tarfile.open(fileobj=file, mode="w"))
            for item in items:
                size_bytes += self._add(archive, item)
                samples += 1
                if not endless and (samples >= SHARD_SAMPLES or size_bytes >= SHARD_BYTES):
                    return

    def _add(self, archive: tarfile.TarFile, item: JournalItem) -> int:
        image = self._reader.read(item.picture.locator)
        if isinstance(image, str):
            raise InvalidInput(
                f"{item.picture.name}: a WebDataset needs the bytes of images, not URLs: "
                "download them first, for example with img2dataset"
            )
        key = f"{next(self._numbers):08d}"
        _member(archive, f"{key}.{_suffix(item.picture.name, image)}", image)
        text = "\n".join(item.texts).encode("utf-8", "backslashreplace")
        _member(archive, f"{key}.txt", text)
        row = row_of(item, self.text_column)
        _member(archive, f"{key}.json", json_line(row))
        return len(image)

    def _remove_shards(self, first: int) -> None:
        """Delete the further shards of a larger earlier output."""
        while os.path.exists(path := self._shard(first)):
            os.unlink(path)
            first += 1

    def _shard(self, number: int) -> str:
        return _NUMBER.sub(lambda match: match[0] % number, self.path)


def is_shard_of(path: str, name: str) -> bool:
    """Return whether a file has the name of a shard of this output."""
    parts = [re.escape(part) for part in _NUMBER.split(os.path.realpath(path))]
    return len(parts) > 1 and re.fullmatch(r"\d+".join(parts), os.path.realpath(name)) is not None


def _stamps_of(journal: Journal, state: str) -> dict[str, str]:
    stamps: dict[str, str] = json.loads(journal.read_state(state) or "{}")
    return stamps


class _Peekable:
    """An iterator of items that knows whether there is a next one."""

    def __init__(self, items: Iterator[JournalItem]) -> None:
        self._items = items
        self._next = next(items, None)

    @property
    def has_next(self) -> bool:
        return self._next is not None

    def __iter__(self) -> Iterator[JournalItem]:
        return self

    def __next__(self) -> JournalItem:
        if self._next is None:
            raise StopIteration
        item, self._next = self._next, next(self._items, None)
        return item


def _member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    # All else is constant, so that equal collections make equal archives.
    information = tarfile.TarInfo(name)
    information.size = len(data)
    information.mode = 0o644
    archive.addfile(information, io.BytesIO(data))


def _suffix(name: str, image: bytes) -> str:
    suffix = os.path.splitext(name)[1].lower().lstrip(".")
    if re.fullmatch("[a-z0-9]{1,5}", suffix):
        return suffix
    return next((known for magic, known in _MAGIC if image.startswith(magic)), "img")
