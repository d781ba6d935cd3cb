"""How often to look while waiting, and when to stop."""

from __future__ import annotations

import time


class PollSchedule:
    """Paces the looks of a poller, and ends them.

    A pause is an eighth of the time waited so far, within bounds: a poller hears of a result at
    most an eighth later than it could, whatever the scale of its wait.
    """

    def __init__(self, timeout: float | None, longest_pause_s: float) -> None:
        self._began = time.monotonic()
        self._deadline = None if timeout is None else self._began + timeout
        self._longest_pause_s = longest_pause_s

    def next_delay_s(self) -> float | None:
        """Seconds until the next look; None when the time is up."""
        now = time.monotonic()
        pause_s = min(max((now - self._began) / 8, 0.001), self._longest_pause_s)
        if self._deadline is None:
            return pause_s
        return None if now >= self._deadline else min(pause_s, self._deadline - now)

    def pause(self) -> bool:
        """Sleep until the next look; False, at once, when the time is up."""
        pause_s = self.next_delay_s()
        if pause_s is None:
            return False
        time.sleep(pause_s)
        return True
