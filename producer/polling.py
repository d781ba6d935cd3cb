"""The schedule of a poller: growing delays between look-ups, and a deadline."""

from __future__ import annotations

import time


class PollSchedule:
    """A schedule of look-ups with a deadline on the monotonic clock.

    A delay is an eighth of the time waited so far, within bounds. So a poller reads a result late
    by at most an eighth of its wait, however long the wait is.
    """

    def __init__(self, timeout: float | None, max_delay_s: float) -> None:
        self._started = time.monotonic()
        self._deadline = None if timeout is None else self._started + timeout
        self._max_delay_s = max_delay_s

    def waited_s(self) -> float:
        """Return the seconds since the start of the schedule."""
        return time.monotonic() - self._started

    def next_delay_s(self) -> float | None:
        """Return the seconds until the next look-up; None after the deadline."""
        now = time.monotonic()
        delay_s = min(max((now - self._started) / 8, 0.001), self._max_delay_s)
        if self._deadline is None:
            return delay_s
        return None if now >= self._deadline else min(delay_s, self._deadline - now)

    def remaining_s(self) -> float | None:
        """Return the seconds until the deadline, at least 0; None without a deadline."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - time.monotonic())

    def pause(self) -> bool:
        """Sleep until the next look-up and return True; return False after the deadline."""
        delay_s = self.next_delay_s()
        if delay_s is None:
            return False
        time.sleep(delay_s)
        return True
