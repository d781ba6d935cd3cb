"""Room in memory that threads share: who needs much waits for it, who needs little passes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: How often the one who waits longest is passed by others: room that is kept full by small needs
#: would else never be free for a large one.
MAX_PASSES: Final = 32


class Room:
    """So many bytes; thread-safe. Who needs more than that has all of it, alone."""

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._taken = 0
        self._passes = 0
        self._waiting: list[object] = []
        self._changed = threading.Condition()

    @contextmanager
    def of(self, needed_bytes: int) -> Iterator[None]:
        """Hold so much of it; waits until there is that much."""
        needed = min(needed_bytes, self._total)
        with self._changed:
            self._wait(needed)
            self._taken += needed
        try:
            yield
        finally:
            with self._changed:
                self._taken -= needed
                self._changed.notify_all()

    def _wait(self, needed: int) -> None:
        me = object()
        self._waiting.append(me)
        try:
            while not self._may_enter(me, needed):
                self._changed.wait()
            if self._waiting[0] is me:
                self._passes = 0
            else:
                self._passes += 1
        finally:
            self._waiting.remove(me)
        # Another may be the first now.
        self._changed.notify_all()

    def _may_enter(self, me: object, needed: int) -> bool:
        first = self._waiting[0] is me
        return self._taken + needed <= self._total and (first or self._passes < MAX_PASSES)
