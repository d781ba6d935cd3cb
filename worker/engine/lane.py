"""The protocol of the engine's lanes, one for each kind of work."""

from __future__ import annotations

from typing import Protocol

from worker.engine.halving import Failure
from worker.engine.row import Row


class Lane(Protocol):
    """A queue of rows and the loop that runs them."""

    #: Rows admitted since the engine has last cleared it.
    admitted: list[Row]
    #: True if an admitted row has its first token at the end of that step.
    is_decoding: bool

    @property
    def active(self) -> int:
        """Number of rows that are running."""

    @property
    def waiting(self) -> int:
        """Number of rows that have not started."""

    def prepare(self, row: Row) -> Failure | None:
        """Tokenize a row's text; return a Failure if the row cannot run."""

    def add(self, row: Row) -> None:
        """Enqueue a row."""

    def promote(self, row: Row) -> None:
        """Move a waiting bulk row to the interactive queue."""

    def withdraw(self, row: Row) -> bool:
        """Remove a waiting row; return False if it is already running."""

    def step(self) -> list[Row]:
        """Run one step and return the rows that ended."""
