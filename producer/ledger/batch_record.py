"""The record of a batch: its size, and whether all of its items are submitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """The fields of a batch's record that readers of its results need."""

    total: int
    chunk_items: int
    submitted: bool

    @classmethod
    def of(cls, fields: Mapping[Any, Any]) -> Self:
        """Return the record of Redis's fields, which must not be empty."""
        return cls(int(fields[b"total"]), int(fields[b"chunk_items"]), fields[b"submitted"] == b"1")

    @property
    def chunks(self) -> int:
        """The number of chunks so far."""
        return -(-self.total // self.chunk_items)

    def items_in(self, number: int) -> int:
        """Return the number of items of a chunk."""
        return min(self.chunk_items, self.total - number * self.chunk_items)
