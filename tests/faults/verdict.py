"""What a run has seen: how much was answered, and everything that must not happen."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence


class Verdict:
    """Thread-safe counts and violations of one run."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        #: Items that have their result.
        self.answered = 0
        #: Items that somebody wants an answer to, answered or not.
        self.asked = 0
        #: Calls that were made again because Redis was away or full.
        self.retries = 0
        #: Work that a new master knew nothing of, and that was submitted again.
        self.forgotten: list[str] = []
        self._lock = threading.Lock()

    @property
    def open_items(self) -> int:
        """Items that somebody waits for."""
        return self.asked - self.answered

    def ask(self, items: int) -> None:
        """Somebody asks for these."""
        with self._lock:
            self.asked += items

    def answer(self) -> None:
        """One more result is here."""
        with self._lock:
            self.answered += 1

    def retried(self) -> None:
        """One more call was made again."""
        with self._lock:
            self.retries += 1

    def violated(self, what: str) -> None:
        """Something happened that must not."""
        with self._lock:
            self.violations.append(what)

    def compare(self, name: str, expected: Sequence[str], got: Mapping[int, str]) -> None:
        """Every item has a result, the right one, and there is no other."""
        for index, text in enumerate(expected):
            if index not in got:
                self.violated(f"{name}: item {index} has no result")
            elif got[index] != text:
                self.violated(f"{name}: item {index} is {got[index]!r}, not {text!r}")
        if more := set(got) - set(range(len(expected))):
            self.violated(f"{name}: items that nobody submitted: {sorted(more)}")
