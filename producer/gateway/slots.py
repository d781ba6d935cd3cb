"""How many uploads may be under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ..errors import QueueFull
from .problems import Problem

#: Uploads at once, of one name and all in all: each holds a thread, and there are 32.
UPLOADS_EACH: Final = 8
UPLOADS: Final = 28


class UploadSlots:
    """Counts the uploads of one process."""

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def one_more(self, name: str) -> Iterator[None]:
        """Counts as one within the block; raises Problem where there are too many."""
        if self._under_way[name] >= UPLOADS_EACH or self._under_way.total() >= UPLOADS:
            raise no_room("Too many uploads are under way: try again when one of them has ended")
        self._under_way[name] += 1
        try:
            yield
        finally:
            self._under_way[name] -= 1


def no_room(about: str) -> Problem:
    """An upload that cannot begin, or go on, for now."""
    return Problem("queue_full", about, retry_after_s=QueueFull.retry_after_s)
