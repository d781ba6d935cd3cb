"""Who waits, and who may join now. Pure: no torch, no clock.

Admission is ski rental. To admit now costs every active row the fixed part of a prefill; to wait
costs every row that could already be running one decode step. So rows are let in when the waiting
so far has cost as much as admitting would: never more than twice what perfect foresight would pay.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What can wait here."""

    number: int  # its own, for as long as it lives

    @property
    def interactive(self) -> bool:
        """Whether it goes before bulk."""

    @property
    def pending_image(self) -> str | None:
        """The image that must be encoded before it can run; None when that is done."""


Row = TypeVar("Row", bound=Waiting)


class Scheduler(Generic[Row]):
    """Queues of waiting rows. Interactive before bulk, oldest first."""

    def __init__(self, max_rows: int, reserved_rows: int = 0, prefill_steps: float = 1.0) -> None:
        if not 0 <= reserved_rows < max_rows:
            raise ValueError(f"reserved_rows must lie in 0..{max_rows - 1}, not {reserved_rows}")
        self.max_rows = max_rows
        #: Rows that bulk may not take, so that an interactive row finds a place at once.
        self.reserved_rows = reserved_rows
        #: The fixed cost of a prefill, in decode steps; measured at warm-up.
        self.prefill_steps = prefill_steps
        #: Images that may be encoded for those who join in one step, so that those who decode are
        #: not held up for long.
        self.max_images = max_rows
        self._interactive: dict[int, Row] = {}
        self._bulk: dict[int, Row] = {}
        self._waited = 0  # row-steps that admissible rows have waited since the last admission

    def __len__(self) -> int:
        return len(self._interactive) + len(self._bulk)

    @property
    def has_interactive(self) -> bool:
        """Whether an interactive row waits."""
        return bool(self._interactive)

    def add(self, row: Row) -> None:
        (self._interactive if row.interactive else self._bulk)[row.number] = row

    def remove(self, row: Row) -> bool:
        """Take a waiting row out; False when it does not wait here."""
        if self._interactive.pop(row.number, None) is not None:
            return True
        return self._bulk.pop(row.number, None) is not None

    def promote(self, row: Row) -> None:
        """Somebody waits for this bulk row now, if it still waits."""
        if self._bulk.pop(row.number, None) is not None:
            self._interactive[row.number] = row

    def admit(self, active: int = 0, active_bulk: int = 0) -> list[Row]:
        """Take out the rows that join now. Call once for each step.

        `active` rows are running, `active_bulk` of them bulk.
        """
        interactive, bulk = self._admissible(active, active_bulk)
        if not interactive + bulk:
            self._waited = 0
            return []
        self._waited += interactive + bulk
        if active and not interactive and self._waited < active * self.prefill_steps:
            return []
        self._waited = 0
        return self._take(interactive, bulk)

    def _admissible(self, active: int, active_bulk: int) -> tuple[int, int]:
        free = self.max_rows - active
        interactive = min(free, len(self._interactive))
        open_to_bulk = min(free - interactive, self.max_rows - self.reserved_rows - active_bulk)
        return interactive, max(0, min(open_to_bulk, len(self._bulk)))

    def _take(self, interactive: int, bulk: int) -> list[Row]:
        first = islice(self._interactive.values(), interactive)
        then = islice(self._bulk.values(), bulk)
        taken: list[Row] = []
        images: set[str] = set()
        for row in chain(first, then):
            if row.pending_image is not None:
                if len(images) == self.max_images and row.pending_image not in images:
                    continue
                images.add(row.pending_image)
            taken.append(row)
        for row in taken:
            self.remove(row)
        return taken
