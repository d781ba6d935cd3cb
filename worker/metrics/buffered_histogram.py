"""A histogram for values that come often: they are counted in memory, and published now and then.

An observation of prometheus_client takes 6 µs if processes share its values by files, this one
one (`python -m benchmarks.metrics_cost --files`).
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Histogram


class BufferedHistogram:
    """A histogram whose values are visible after `publish`; thread-safe."""

    def __init__(
        self, name: str, description: str, bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._histogram = Histogram(name, description, buckets=bounds, registry=registry)
        self._bounds = bounds
        self._lock = threading.Lock()
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        index = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[index] += 1
            self._sum += value

    def publish(self) -> None:
        """Add the values so far to the histogram."""
        with self._lock:
            counts, self._counts = self._counts, [0] * len(self._counts)
            total, self._sum = self._sum, 0.0
        self._histogram._sum.inc(total)
        for bucket, count in zip(self._histogram._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
