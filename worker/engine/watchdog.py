"""Ends an engine whose step hangs: a device that answers no more, a lock that is never given back.

The process ends, not the step: nothing else gets a device back. The supervisor starts a new engine,
and consumers send it the rows again.
"""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable
from typing import Final

#: Seconds between two renewals: each starts a thread, which is too much for every step.
RENEW_S: Final = 1.0


class Watchdog:
    """Prints every thread's stack and ends the process unless it hears of progress in time.

    By faulthandler, whose thread needs no interpreter lock: a call that hangs while it holds the
    lock is noticed as well.
    """

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s = timeout_s
        self._clock = clock
        self._renew_at: float | None = None

    def step(self) -> None:
        """Work goes on: from now on there must be another call in time."""
        now = self._clock()
        if self._renew_at is None or now >= self._renew_at:
            faulthandler.dump_traceback_later(self._timeout_s + RENEW_S, exit=True)
            self._renew_at = now + RENEW_S

    def rest(self) -> None:
        """There is nothing to do, and nothing can hang."""
        if self._renew_at is not None:
            faulthandler.cancel_dump_traceback_later()
            self._renew_at = None
