"""Histograms that are counted in memory equal those of prometheus_client."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from worker.metrics.buffered_histogram import BufferedHistogram

BOUNDS = (0.1, 0.5, 2)


def test_it_equals_a_histogram_with_the_same_values() -> None:
    registries = CollectorRegistry(), CollectorRegistry()
    buffered = BufferedHistogram("wait_seconds", "Wait", BOUNDS, registries[0])
    histogram = Histogram("wait_seconds", "Wait", buckets=BOUNDS, registry=registries[1])
    generator = random.Random(0)
    for _ in range(3):
        for value in (*BOUNDS, *(generator.choice([0, 0.25, 1, 3.5]) for _ in range(50))):
            buffered.observe(value)
            histogram.observe(value)
        buffered.publish()
    shown, expected = (
        [line for line in generate_latest(registry).splitlines() if b"_created" not in line]
        for registry in registries
    )
    # Sums in another order may differ in the last digit.
    assert [line for line in shown if b"_sum" not in line] == [
        line for line in expected if b"_sum" not in line
    ]
