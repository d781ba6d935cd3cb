"""Statistics of an engine. Independent of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class EngineStats:
    """Counters since the engine's start, and gauges of its current state."""

    steps: int = 0
    admitted: int = 0  # rows added to a lane
    joined: int = 0  # requests that joined an existing row
    answered: int = 0
    failed: int = 0
    tokens: int = 0
    encoded_images: int = 0
    cache_hits: int = 0
    row_steps: int = 0  # rows summed over steps
    active: int = 0
    waiting: int = 0
    last_step_s: float = 0.0
    busy_s: float = 0.0  # time spent in steps
    feature_bytes: int = 0
    device_bytes: int = 0  # allocated on a CUDA device
    device_limit_bytes: int = 0  # memory of a CUDA device

    @property
    def mean_occupancy(self) -> float:
        """Mean number of rows per step."""
        return self.row_steps / self.steps if self.steps else 0.0
