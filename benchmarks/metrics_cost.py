"""Microseconds that metrics take for an item of a batch: `python -m benchmarks.metrics_cost`.

With files, as below a supervisor that serves metrics, and in memory, as without.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable

from producer.contract import ErrorCode, ItemResult, Queue, Task, failure
from worker.consumer.metrics import ConsumerMetrics
from worker.engine.metrics import EngineMetrics
from worker.engine.stats import EngineStats
from worker.metrics.shared_metrics import DIRECTORY, PROCESS, join_shared_metrics

CALLS = 2000
ITEMS = 32


def microseconds(call: Callable[[], object]) -> float:
    """Return the time of a call, the best of several runs."""
    best_s = float("inf")
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(CALLS):
            call()
        best_s = min(best_s, time.perf_counter() - started)
    return best_s / CALLS * 1e6


def main() -> None:
    """Print the times."""
    if "--files" in sys.argv:
        os.environ.update({DIRECTORY: tempfile.mkdtemp(), PROCESS: "bulk"})
    join_shared_metrics()
    consumer, engine, stats = ConsumerMetrics(), EngineMetrics(), EngineStats()
    results: list[ItemResult] = [{"text": "a cat"}] * (ITEMS - 1)
    results.append(failure(ErrorCode.IMAGE_INVALID, "no image"))

    def chunk() -> None:
        consumer.start_job(Queue.BULK, 1.0, 1)
        consumer.count_lookups(2, ITEMS - 2)
        consumer.end_job(Task.CAPTION, Queue.BULK, results, 1.0, 2.0)

    def row() -> None:
        consumer.decode_seconds.observe(0.003)
        engine.wait_seconds.observe(0.3)
        engine.first_token_seconds.observe(0.3)

    def step() -> None:
        engine.step_seconds.observe(0.01)
        engine.step_rows.observe(40)

    of_chunk, of_row = microseconds(chunk) / ITEMS, microseconds(row)
    print(f"an item: {of_chunk + of_row:.1f} us ({of_chunk:.1f} in its chunk, {of_row:.1f} alone)")
    print(f"a step: {microseconds(step):.1f} us")
    print(f"each second: {microseconds(lambda: engine.publish(stats)):.0f} us")


if __name__ == "__main__":
    main()
