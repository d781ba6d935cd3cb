"""The plan of each image: whether it is done, skipped, has its answers, or needs the queue."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum

from ..errors import InvalidInput
from ..image_sources.image_bytes import ImageBytes
from ..image_sources.picture import Picture
from .outputs.output import Output
from .outputs.sidecars import has_longer_name
from .storage.item import REPETITION, ItemState, JournalItem, Texts
from .storage.journal import Journal
from .storage.near_duplicates import NearDuplicates
from .summary import RunCounts
from .texts.text_rules import TextRules


class Step(Enum):
    """The next step of an image."""

    #: An earlier run has done it.
    KEEP = "keep"
    #: It has a caption of another origin.
    SKIP = "skip"
    #: It is in the collection twice.
    REPEATED = "repeated"
    #: It cannot be captioned.
    FAIL = "fail"
    #: Its final texts are in the journal.
    WRITE = "write"
    #: It needs its texts, whose answers may be in the journal.
    ANSWER = "answer"


@dataclass(slots=True)
class PicturePlan:
    """The next step of an image."""

    step: Step
    item: JournalItem
    #: For ANSWER: the bytes of the image, or its reference.
    image: bytes | str = b""
    #: For ANSWER: answers are missing, and the image waits for them.
    missing: bool = False
    #: It gets the caption of a near duplicate.
    is_shared: bool = False
    #: For SKIP: its caption is of an earlier run, whose journal has it.
    is_earlier: bool = False

    def count_details(self, counts: RunCounts) -> None:
        """Count what the summary says beside the steps."""
        counts.shared += self.is_shared
        counts.earlier += self.is_earlier
        if self.step is Step.ANSWER and has_longer_name(self.item):
            counts.longer_names.append(self.item.target or "")


class Planner:
    """A planner; it reads images, and writes nothing."""

    def __init__(
        self,
        journal: Journal,
        output: Output,
        rules: TextRules,
        reader: ImageBytes,
        digest: str,
        near_duplicates: NearDuplicates | None = None,
    ) -> None:
        self._journal = journal
        self._output = output
        self._rules = rules
        self._reader = reader
        self._digest = digest
        self._near_duplicates = near_duplicates
        #: Further mentions of images so far, by their key.
        self._repetitions: Counter[str] = Counter()

    def plan(self, picture: Picture, position: int) -> PicturePlan:
        """Return the next step of an image."""
        stored = self._journal.item(picture.key)
        if stored is not None and stored[0].run == self._journal.run:
            if not self._output.has_repetitions:
                return PicturePlan(Step.REPEATED, stored[0])
            self._repetitions[picture.key] += 1
            number = self._repetitions[picture.key]
            picture = replace(picture, key=f"{picture.key}{REPETITION}{number}")
            stored = self._journal.item(picture.key)
        if stored is not None:
            plan = self._known(stored[0], stored[1], picture, position)
            if plan is not None:
                return plan
        item = JournalItem(picture, position, recipe=self._digest)
        try:
            if picture.locator.kind == "error":
                # Its own error, not that no output could name it.
                return self._read(item)
            item.target = self._output.target(picture)
            if self._is_skipped(item, stored[0] if stored else None):
                is_earlier = stored is not None and item.texts == stored[0].texts
                return PicturePlan(Step.SKIP, item, is_earlier=is_earlier)
            return self._read(item)
        except InvalidInput as error:
            item.state, item.code, item.message = ItemState.FAILED, error.code, str(error)
            item.content = ""  # read again by the next run
            return PicturePlan(Step.FAIL, item)

    def _known(
        self, item: JournalItem, stamp: str, picture: Picture, position: int
    ) -> PicturePlan | None:
        """Return the step of an image that is as it was when it was done; None: it is not."""
        is_same = stamp == picture.stamp and (stamp or picture.locator.kind == "url")
        if item.recipe != self._digest or not is_same:
            return None
        item.picture, item.position = picture, position
        if item.state is ItemState.FAILED and item.content:
            return PicturePlan(Step.FAIL, item)
        if item.state is ItemState.READY:
            return PicturePlan(Step.WRITE, item)
        if item.state is ItemState.DONE:
            return PicturePlan(Step.KEEP if self._output.is_written(item) else Step.WRITE, item)
        return None

    def _is_skipped(self, item: JournalItem, stored: JournalItem | None) -> bool:
        """Read the caption that the image has; return whether it stays."""
        present = self._output.existing(item.picture, item.target)
        current = "\n".join(present.texts) or None
        is_own = (
            stored is not None
            and bool(stored.texts)
            and (
                current == ("\n".join(stored.texts).strip() or None)
                # A table returns the texts of others only.
                or (current is None and not self._output.has_files)
            )
        )
        if stored is not None:
            # That of its last reading: a row follows its image by it.
            item.content = stored.content
        if stored is not None and is_own:
            # While the image waits for new texts, the journal has those of its file.
            item.existing = stored.existing
            item.put(Texts(stored.texts, stored.questions))
            # Somebody edited it: see `Journal.adopt_texts`.
            is_edited = stored.existing == "\n".join(stored.texts)
            is_skipped = stored.state is ItemState.SKIPPED or is_edited
            stays = stored.recipe != self._digest or is_skipped
            texts = Texts(stored.texts, stored.questions)
        else:
            item.existing = current or item.picture.caption
            stays = item.existing is not None
            texts = present if present.texts else Texts([item.existing or ""], [])
            if not self._output.has_files:
                item.put(present)
        if self._rules.existing != "skip" or not stays:
            return False
        item.state = ItemState.SKIPPED
        item.put(texts)
        return True

    def _read(self, item: JournalItem) -> PicturePlan:
        image = self._reader.read(item.picture.locator)
        content = item.content = content_of(image)
        if self._near_duplicates is not None and isinstance(image, bytes):
            item.content = self._near_duplicates.representative(content, image)
        return PicturePlan(Step.ANSWER, item, image, is_shared=item.content != content)


def content_of(image: bytes | str) -> str:
    """Return the SHA-256 of an image; of its URL, if the worker fetches it."""
    data = image if isinstance(image, bytes) else b"url:" + image.encode("utf-8", "surrogateescape")
    return hashlib.sha256(data).hexdigest()
