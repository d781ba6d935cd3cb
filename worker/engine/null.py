"""The engine of BLIPLINE_MODEL=null, without model and rows; consumers answer without it.

It serves to measure only the queue, with more consumers than there are accelerators.
"""

from __future__ import annotations

from worker.engine.metrics import EngineMetrics
from worker.engine.request import Answer, Request
from worker.engine.stats import EngineStats


class NullEngine:
    """An engine without a model."""

    idle = True

    def __init__(self) -> None:
        self.stats, self.metrics = EngineStats(), EngineMetrics()

    def add(self, request: Request) -> None:
        """Raise NotImplementedError; no consumer of this engine sends rows."""
        raise NotImplementedError("the null engine runs no rows")

    def cancel(self, request_id: int | str) -> None:
        """Do nothing; there are no rows."""

    def step(self) -> list[Answer]:
        """Return no answers."""
        return []

    def partial_texts(self) -> list[tuple[int | str, str]]:
        """Return no texts."""
        return []

    def has_features(self, hashes: list[str], task: str) -> set[str]:
        """Return no images."""
        return set()
