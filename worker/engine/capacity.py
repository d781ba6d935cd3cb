"""Capacity of a KV cache's slots, in tokens: growth for a long row, and shrinking after it."""

from __future__ import annotations

from collections.abc import Sequence

#: Initial tokens of a slot: 32 image tokens, a question and a short answer.
FIRST_CAPACITY = 64


class CapacityPolicy:
    """The capacity of all slots, from that of ordinary rows, `first`, up to `limit` tokens.

    It doubles for a long row, since few rows reach the limit. It shrinks once the remaining rows
    fill no more than a quarter, so that rows of ordinary lengths do not move the buffers back and
    forth. `patience` is the number of rows that must have left without need of the capacity.
    """

    def __init__(self, limit: int, first: int = FIRST_CAPACITY, patience: int = 0) -> None:
        self.limit, self.patience = limit, patience
        self.first = min(limit, first)
        #: Rows that have left since the last one that needed the capacity.
        self._short_rows = 0

    def grow(self, capacity: int, length: int) -> int:
        """Return the capacity for a row of `length` tokens. Raises ValueError above the limit."""
        if length > self.limit:
            raise ValueError(f"{length} tokens exceed the model's limit of {self.limit}")
        return capacity if length <= capacity else min(self.limit, max(length, 2 * capacity))

    def shrink(self, capacity: int, leaving: Sequence[int], remaining: Sequence[int]) -> int:
        """Return the capacity after rows of `leaving` lengths have left those of `remaining`."""
        is_needed = self._fit(capacity, leaving) == capacity
        self._short_rows = 0 if is_needed else self._short_rows + len(leaving)
        return capacity if self._short_rows < self.patience else self._fit(capacity, remaining)

    def _fit(self, capacity: int, lengths: Sequence[int]) -> int:
        longest = max(lengths, default=0)
        return capacity if 4 * longest > capacity else max(self.first, 2 * longest)
