"""Requests in flight: each once, however many images with the same content wait for its answer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..batch import Batch
from .storage.item import JournalItem
from .texts.recipe import TextRequest

#: Maximum requests in flight: enough for a dozen workers, little enough for a flat memory.
MAX_REQUESTS: Final = 4096


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A request about the content of an image."""

    content: str
    request: TextRequest

    @property
    def custom_id(self) -> str:
        """Id in the batch, from which a later run knows the answer's place."""
        return f"{self.content}-{self.request.digest}"


def parse_custom_id(custom_id: str | None) -> tuple[str, str] | None:
    """Return the content and the digest of a request; None for the id of another program."""
    content, _, digest = (custom_id or "").partition("-")
    return (content, digest) if len(content) == 64 and len(digest) == 16 else None


@dataclass(slots=True)
class SubmittedPage:
    """A batch in flight."""

    batch: Batch
    inquiries: Sequence[Inquiry]
    #: Position of the next result, in the order of completion.
    cursor: int = 0


@dataclass(slots=True)
class Wait:
    """The images that wait for an answer."""

    inquiry: Inquiry
    items: list[JournalItem] = field(default_factory=list)


class Flight:
    """The requests in flight, shared by the thread that submits and the one that collects."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.pages: list[SubmittedPage] = []
        #: Requests to be submitted with a new reading of their image.
        self.again: deque[tuple[Inquiry, JournalItem]] = deque()
        #: True once the whole collection has been read.
        self.scanned = False
        self.stopped = False
        #: Error that ended the thread that submits.
        self.error: BaseException | None = None
        self._waits: dict[tuple[str, str], Wait] = {}

    def join(self, item: JournalItem, requests: Iterable[TextRequest]) -> list[Inquiry]:
        """Let an item wait for answers; return the inquiries that nobody has submitted."""
        new = []
        with self.changed:
            for request in requests:
                wait = self._waits.get((item.content, request.digest))
                if wait is None:
                    wait = Wait(Inquiry(item.content, request))
                    self._waits[item.content, request.digest] = wait
                    new.append(wait.inquiry)
                if not any(waiting is item for waiting in wait.items):
                    wait.items.append(item)
        return new

    def repeat(self, item: JournalItem, requests: Iterable[TextRequest]) -> None:
        """Let an item wait for answers to requests that the other thread is to submit."""
        with self.changed:
            self.again += [(inquiry, item) for inquiry in self.join(item, requests)]
            self.changed.notify_all()

    def answered(self, content: str, digest: str) -> list[JournalItem]:
        """Return the items that waited for an answer, which is stored now."""
        with self.changed:
            wait = self._waits.pop((content, digest), None)
            self.changed.notify_all()
        return [] if wait is None else wait.items

    def add(self, page: SubmittedPage) -> None:
        """Add a submitted batch."""
        with self.changed:
            self.pages.append(page)

    def remove(self, page: SubmittedPage) -> None:
        """Remove a batch without further results; submit its unanswered inquiries again."""
        with self.changed:
            self.pages.remove(page)
            self.lose(page.inquiries)

    def lose(self, inquiries: Iterable[Inquiry]) -> None:
        """Submit inquiries again whose batch no longer exists."""
        with self.changed:
            for inquiry in inquiries:
                wait = self._waits.get((inquiry.content, inquiry.request.digest))
                if wait is not None:
                    self.again.append((inquiry, wait.items[0]))
            self.changed.notify_all()

    def wait_for_room(self, requests: int) -> None:
        """Wait until that many more requests are in flight at most."""
        with self.changed:
            self.changed.wait_for(
                lambda: self.stopped or len(self._waits) + requests <= MAX_REQUESTS
            )

    @property
    def idle(self) -> bool:
        """True if the collection is read, and no answer is missing."""
        with self.changed:
            return self.scanned and not self._waits

    def stop(self) -> None:
        """End the thread that submits."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
