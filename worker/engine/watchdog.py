"""A watchdog that ends the engine process if a step hangs (a stuck device, a deadlock).

Only the end of the process releases a stuck device. The supervisor then starts a new engine, and
consumers send their rows to it.
"""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable
from typing import Final

from worker.processes.streams import STDERR_FILENO

#: Seconds between two renewals of the timer: each starts a thread, which is too costly per step.
RENEW_S: Final = 1.0


class Watchdog:
    """A timer that prints every thread's stack and ends the process unless it is renewed.

    faulthandler's thread does not need the interpreter lock, so it also ends a call that hangs
    while holding the lock.
    """

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s = timeout_s
        self._clock = clock
        self._renew_at: float | None = None

    def step(self) -> None:
        """Start or renew the timer at the beginning of a step."""
        now = self._clock()
        if self._renew_at is None or now >= self._renew_at:
            faulthandler.dump_traceback_later(
                self._timeout_s + RENEW_S, exit=True, file=STDERR_FILENO
            )
            self._renew_at = now + RENEW_S

    def rest(self) -> None:
        """Cancel the timer while the engine is idle."""
        if self._renew_at is not None:
            faulthandler.cancel_dump_traceback_later()
            self._renew_at = None
