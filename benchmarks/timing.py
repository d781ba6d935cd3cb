"""Times, and what is said while they are taken."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """A result and the seconds it took."""
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


def note(text: str) -> None:
    """Progress, beside the report."""
    print(text, file=sys.stderr, flush=True)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of them do not exceed."""
    place = -(-len(values) * percent // 100)
    return sorted(values)[max(0, int(place) - 1)]
