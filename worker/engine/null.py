"""The engine of BLIPLINE_MODEL=null: no model, no rows. Consumers answer by themselves.

What is left is the queue, which can so be measured for more consumers than there are accelerators.
"""

from __future__ import annotations

from worker.engine.request import Answer, Request
from worker.engine.stats import EngineStats


class NullEngine:
    """Stands where an engine stands, and is asked nothing."""

    idle = True

    def __init__(self) -> None:
        self.figures = EngineStats()

    def add(self, request: Request) -> None:
        """Nobody has a reason to."""
        raise NotImplementedError("the null engine runs no rows")

    def cancel(self, request_id: int | str) -> None:
        """There are no rows."""

    def step(self) -> list[Answer]:
        """There is nothing to do."""
        return []

    def has_features(self, hashes: list[str], task: str) -> set[str]:
        """None."""
        return set()
