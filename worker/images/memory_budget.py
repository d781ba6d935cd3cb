"""A memory budget that threads share, with bounded overtaking of waiting threads."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from worker.processes.cores import usable_cores

CORES: Final = len(usable_cores())
#: Default bytes of a consumer for decoding images, and the same again for encoded images: a photo
#: of 12 megapixels per core.
BUDGET_BYTES: Final = max(512, 64 * CORES) * 1024 * 1024
#: Maximum times that other threads may overtake the longest-waiting one: small requests could
#: otherwise keep the budget full and block a large one forever.
MAX_OVERTAKES: Final = 32


class MemoryBudget:
    """A budget of bytes that threads share. A larger request waits for the whole budget."""

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._used = 0
        self._overtakes = 0
        self._waiters: list[object] = []
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, needed_bytes: int) -> Iterator[None]:
        """Acquire bytes for a `with` block; wait until they are free."""
        acquired = self.acquire(needed_bytes)
        try:
            yield
        finally:
            self.release(acquired)

    def acquire(self, needed_bytes: int, deadline: float = math.inf) -> int:
        """Wait until the bytes are free; return the number of bytes to release.

        Raises TimeoutError at `deadline`, which is on the monotonic clock.
        """
        needed = min(needed_bytes, self._total)
        with self._changed:
            self._wait(needed, deadline)
            self._used += needed
        return needed

    def try_acquire(self, needed_bytes: int) -> bool:
        """Acquire the bytes if they are free now; more than the total is never free."""
        with self._changed:
            free = self._used + needed_bytes <= self._total
            self._used += needed_bytes if free else 0
        return free

    def release(self, acquired_bytes: int) -> None:
        """Return bytes to the budget."""
        with self._changed:
            self._used -= acquired_bytes
            self._changed.notify_all()

    def _wait(self, needed: int, deadline: float) -> None:
        waiter = object()
        self._waiters.append(waiter)
        try:
            while not self._may_proceed(waiter, needed):
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0:
                    raise TimeoutError
                self._changed.wait(None if remaining_s == math.inf else remaining_s)
            if self._waiters[0] is waiter:
                self._overtakes = 0
            else:
                self._overtakes += 1
        finally:
            self._waiters.remove(waiter)
            # Another thread may now be the longest-waiting one.
            self._changed.notify_all()

    def _may_proceed(self, waiter: object, needed: int) -> bool:
        is_first = self._waiters[0] is waiter
        return self._used + needed <= self._total and (is_first or self._overtakes < MAX_OVERTAKES)
