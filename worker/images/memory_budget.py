"""Room in memory that threads share: who needs much waits for it, who needs little passes."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

CORES: Final = os.cpu_count() or 1
#: Bytes for all images of a consumer that are being decoded, unless settings say another number,
#: and as many for those that are encoded still: a photo of 12 megapixels for each core.
BUDGET_BYTES: Final = max(512, 64 * CORES) * 1024 * 1024
#: How often the one who waits longest is passed by others: room that is kept full by small needs
#: would else never be free for a large one.
MAX_PASSES: Final = 32


class MemoryBudget:
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
        taken = self.take(needed_bytes)
        try:
            yield
        finally:
            self.give(taken)

    def take(self, needed_bytes: int, until: float = math.inf) -> int:
        """Wait for so much, and say what is to be given back.

        Raises TimeoutError at `until`, which is on the monotonic clock.
        """
        needed = min(needed_bytes, self._total)
        with self._changed:
            self._wait(needed, until)
            self._taken += needed
        return needed

    def take_now(self, needed_bytes: int) -> bool:
        """Take so much if it is free; what is more than all of it never is."""
        with self._changed:
            free = self._taken + needed_bytes <= self._total
            self._taken += needed_bytes if free else 0
        return free

    def give(self, taken_bytes: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self._taken -= taken_bytes
            self._changed.notify_all()

    def _wait(self, needed: int, until: float) -> None:
        me = object()
        self._waiting.append(me)
        try:
            while not self._may_enter(me, needed):
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                self._changed.wait(None if left_s == math.inf else left_s)
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
