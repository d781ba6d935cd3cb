"""Prometheus metrics of a consumer."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from producer.contract import DEAD_CODES, ErrorCode, ItemResult, Queue, Task
from worker.metrics.buffered_histogram import BufferedHistogram

#: The label `code` of an item that has its output.
OK: Final = "ok"
_CODES: Final = frozenset({code.value for code in ErrorCode})
SECONDS_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
DECODE_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class ConsumerMetrics:
    """The metrics of one consumer process, in a registry of their own; thread-safe.

    The values of labels are those of enumerations, so that their number is bounded.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._items = Counter(
            "blipline_worker_items",
            "Items that this worker has ended, by error code (ok: with an output)",
            ["task", "queue", "code"],
            registry=registry,
        )
        self._wait_seconds = Histogram(
            "blipline_worker_queue_seconds",
            "Seconds from the submission of a job to the start of its first run",
            ["queue"],
            registry=registry,
            buckets=SECONDS_BUCKETS,
        )
        self._answer_seconds = Histogram(
            "blipline_worker_answer_seconds",
            "Seconds from the submission of a job to the answers of all of its items",
            ["queue"],
            registry=registry,
            buckets=SECONDS_BUCKETS,
        )
        self._retries = Counter(
            "blipline_worker_retries",
            "Runs of jobs whose earlier run was lost with its consumer",
            ["queue"],
            registry=registry,
        )
        self._dead_letters = Counter(
            "blipline_worker_dead_letters",
            "Jobs with an item that workers gave up on",
            ["queue"],
            registry=registry,
        )
        self._cache_lookups = Counter(
            "blipline_worker_answer_cache_lookups",
            "Items looked up in the answer cache",
            ["outcome"],
            registry=registry,
        )
        self.swept_jobs = Counter(
            "blipline_worker_swept_jobs",
            "Lost jobs that this worker has queued again",
            registry=registry,
        )
        self.decode_seconds = BufferedHistogram(
            "blipline_worker_image_decode_seconds",
            "Seconds to decode and resize an image for a model",
            DECODE_BUCKETS_S,
            registry,
        )
        for queue in Queue:
            for counter in (self._retries, self._dead_letters):
                counter.labels(queue.value)
        self._hits, self._misses = map(self._cache_lookups.labels, ("hit", "miss"))

    def start_job(self, queue: Queue, waited_s: float | None, attempts: int) -> None:
        """Count the start of a job, which is a retry after the first attempt."""
        if attempts > 1:
            self._retries.labels(queue.value).inc()
        elif waited_s is not None:
            self._wait_seconds.labels(queue.value).observe(waited_s)

    def end_job(
        self,
        task: Task,
        queue: Queue,
        results: Iterable[ItemResult],
        waited_s: float | None,
        ran_s: float,
    ) -> None:
        """Count the new results of a job, which ran for `ran_s` after it had waited."""
        codes = Tally(r["error"]["code"] if "error" in r else OK for r in results)
        for code, items in codes.items():
            label = code if code == OK or code in _CODES else ErrorCode.INTERNAL.value
            self._items.labels(task.short, queue.value, label).inc(items)
        if not DEAD_CODES.isdisjoint(codes):
            self._dead_letters.labels(queue.value).inc()
        if waited_s is not None:
            self._answer_seconds.labels(queue.value).observe(waited_s + ran_s)

    def publish(self) -> None:
        """Publish the histogram that is counted in memory."""
        self.decode_seconds.publish()

    def count_lookups(self, hits: int, misses: int) -> None:
        """Count look-ups of items in the answer cache."""
        self._hits.inc(hits)
        self._misses.inc(misses)
