"""A watch over waits for workers: it warns if no worker is alive that could end them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import redis

from ..connection.outage import outage_limit

#: Seconds without a result after which the absence of workers is reported.
SILENT_S: Final = 15.0
#: Seconds between two reports, of all waits of a client together.
REPEAT_S: Final = 60.0
NO_WORKER: Final = "no worker is alive on this Redis: start one with `python -m worker`"

log = logging.getLogger("blipline.workers")


class WorkerWatch:
    """A watch that all waits of a client share; thread-safe."""

    def __init__(self, count_workers: Callable[[], int]) -> None:
        """`count_workers` asks Redis for the number of live workers, and raises its errors."""
        self._count_workers = count_workers
        self._lock = threading.Lock()
        #: Time before which nothing is looked up, by the monotonic clock.
        self._next_at = 0.0

    def is_due(self, waited_s: float) -> bool:
        """Return whether a wait of this length would be looked up now."""
        return waited_s >= SILENT_S and time.monotonic() >= self._next_at

    def look(self, waited_s: float) -> None:
        """Log a warning if a wait without a result has this length and no worker is alive."""
        if not self.is_due(waited_s):
            return
        with self._lock:
            now = time.monotonic()
            if now < self._next_at:
                return
            self._next_at = now + REPEAT_S
        # The wait itself reports that Redis fails.
        with suppress(redis.RedisError, OSError), outage_limit(0.0):
            if self._count_workers() == 0:
                log.warning(NO_WORKER)
