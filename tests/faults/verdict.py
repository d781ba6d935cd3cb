"""The verdict of a run: counts of items, and violations of the guarantees."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence


class Verdict:
    """Thread-safe counts and violations of one run."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        #: Items with a result.
        self.answered = 0
        #: Submitted items, answered or not.
        self.submitted = 0
        #: Calls repeated because Redis was unavailable or full.
        self.retries = 0
        #: Jobs that a new master did not know, and that were submitted again.
        self.losses: list[str] = []
        self._lock = threading.Lock()

    @property
    def open_items(self) -> int:
        """Items without a result."""
        return self.submitted - self.answered

    def submit(self, items: int) -> None:
        """Count submitted items."""
        with self._lock:
            self.submitted += items

    def answer(self) -> None:
        """Count a result."""
        with self._lock:
            self.answered += 1

    def retry(self) -> None:
        """Count a repeated call."""
        with self._lock:
            self.retries += 1

    def violate(self, message: str) -> None:
        """Record a violation."""
        with self._lock:
            self.violations.append(message)

    def compare(self, name: str, expected: Sequence[str], results: Mapping[int, str]) -> None:
        """Check that every item has its expected result, and that there are no further ones."""
        for index, text in enumerate(expected):
            if index not in results:
                self.violate(f"{name}: item {index} has no result")
            elif results[index] != text:
                self.violate(f"{name}: item {index} is {results[index]!r}, not {text!r}")
        if more := set(results) - set(range(len(expected))):
            self.violate(f"{name}: items that were never submitted: {sorted(more)}")
