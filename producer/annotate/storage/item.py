"""Items and answers of a journal, and their rows."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, NamedTuple

from ...image_sources.picture import Locator, Picture

#: Separates the key of an image from the number of its repetition in a source. The keys of members
#: of archives and of cells have single NULs.
REPETITION: Final = "\0\0"


class ItemState(IntEnum):
    """The state of an item."""

    #: Its answers are incomplete.
    PENDING = 0
    #: Its texts are final, and may not be written yet.
    READY = 1
    DONE = 2
    FAILED = 3
    #: It had a caption before.
    SKIPPED = 4


class Texts(NamedTuple):
    """The texts of an image; with questions, as many, the texts are their answers."""

    texts: list[str]
    questions: list[str]


#: No texts.
NO_TEXTS: Final = Texts([], [])


@dataclass(slots=True)
class JournalItem:
    """The row of an image."""

    picture: Picture
    position: int
    state: ItemState = ItemState.PENDING
    #: Digest of the requests and the rules of the text.
    recipe: str = ""
    #: SHA-256 of the image, as hexadecimal digits.
    content: str = ""
    #: Caption that was there before the first run.
    existing: str | None = None
    #: File of its caption.
    target: str | None = None
    texts: list[str] = field(default_factory=list)
    code: str | None = None
    message: str | None = None
    run: int = 0
    #: Questions that the texts answer, as many; empty: the texts are captions.
    questions: list[str] = field(default_factory=list)

    def put(self, texts: Texts) -> None:
        """Give the item texts."""
        self.texts, self.questions = texts


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer to one request about one image: a text, or an error."""

    text: str | None
    code: str | None = None
    message: str | None = None


def item_of_row(row: Any) -> JournalItem:
    locator = Locator.of_json(json.loads(row[8]))
    columns = json.loads(row[9]) if row[9] else {}
    picture = Picture(os.fsdecode(row[0]), json.loads(row[7]), locator, row[5], columns)
    target = None if row[11] is None else os.fsdecode(row[11])
    existing = None if row[10] is None else json.loads(row[10])
    return JournalItem(
        picture, row[2], ItemState(row[3]), row[4], row[6], existing, target, json.loads(row[12]),
        row[13], row[14], row[1], json.loads(row[15] or "[]"),
    )  # fmt: skip


def repetition_of(key: str) -> int:
    """Return the number of an image's mention in its source: 0 for the first."""
    number = key.rpartition(REPETITION)[2]
    return int(number) if REPETITION in key else 0


def printable(text: str | None) -> str | None:
    """Return a text that SQLite stores: without the surrogates of names that are not UTF-8."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def key_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
