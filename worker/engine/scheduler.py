"""The scheduler: queues and admission of rows. Independent of torch and of the clock.

Admission is a ski-rental problem. Admitting now costs every active row the fixed part of a prefill;
waiting costs every admissible row one decode step. Rows are admitted once their waiting has cost as
much as admission, which costs at most twice the optimum.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import Generic, Protocol, TypeVar


class WaitingRow(Protocol):
    """A row that can wait in the scheduler."""

    number: int  # unique among live rows

    @property
    def interactive(self) -> bool:
        """True if the row is admitted before bulk rows."""

    @property
    def pending_image(self) -> str | None:
        """The image that must be encoded before the row runs; None if it is encoded."""


Row = TypeVar("Row", bound=WaitingRow)


class Scheduler(Generic[Row]):
    """Queues of waiting rows; interactive before bulk, oldest first."""

    def __init__(self, max_rows: int, reserved_rows: int = 0, prefill_steps: float = 1.0) -> None:
        if not 0 <= reserved_rows < max_rows:
            raise ValueError(f"reserved_rows must lie in 0..{max_rows - 1}, not {reserved_rows}")
        self.max_rows = max_rows
        #: Slots that bulk rows may not occupy, so that an interactive row is admitted immediately.
        self.reserved_rows = reserved_rows
        #: Fixed cost of a prefill, in decode steps; measured during warm-up.
        self.prefill_steps = prefill_steps
        #: Maximum images encoded in one step, which bounds the delay of the active rows.
        self.max_images = max_rows
        self._interactive: dict[int, Row] = {}
        self._bulk: dict[int, Row] = {}
        #: Row-steps that admissible rows have waited since the last admission.
        self._waited_row_steps = 0

    def __len__(self) -> int:
        return len(self._interactive) + len(self._bulk)

    @property
    def has_interactive(self) -> bool:
        """True if an interactive row waits."""
        return bool(self._interactive)

    def add(self, row: Row) -> None:
        (self._interactive if row.interactive else self._bulk)[row.number] = row

    def remove(self, row: Row) -> bool:
        """Remove a waiting row; return False if it does not wait here."""
        if self._interactive.pop(row.number, None) is not None:
            return True
        return self._bulk.pop(row.number, None) is not None

    def promote(self, row: Row) -> None:
        """Move a bulk row to the interactive queue, if it still waits."""
        if self._bulk.pop(row.number, None) is not None:
            self._interactive[row.number] = row

    def admit(self, active: int = 0, active_bulk: int = 0) -> list[Row]:
        """Remove and return the rows to admit. Call once in each step.

        `active` rows are running, `active_bulk` of them bulk.
        """
        interactive, bulk = self._admissible(active, active_bulk)
        if not interactive + bulk:
            self._waited_row_steps = 0
            return []
        self._waited_row_steps += interactive + bulk
        if active and not interactive and self._waited_row_steps < active * self.prefill_steps:
            return []
        self._waited_row_steps = 0
        return self._take(interactive, bulk)

    def _admissible(self, active: int, active_bulk: int) -> tuple[int, int]:
        free = self.max_rows - active
        interactive = min(free, len(self._interactive))
        bulk_limit = min(free - interactive, self.max_rows - self.reserved_rows - active_bulk)
        return interactive, max(0, min(bulk_limit, len(self._bulk)))

    def _take(self, interactive: int, bulk: int) -> list[Row]:
        candidates = chain(
            islice(self._interactive.values(), interactive), islice(self._bulk.values(), bulk)
        )
        taken: list[Row] = []
        images: set[str] = set()
        for row in candidates:
            if row.pending_image is not None:
                if len(images) == self.max_images and row.pending_image not in images:
                    continue
                images.add(row.pending_image)
            taken.append(row)
        for row in taken:
            self.remove(row)
        return taken
