"""The metrics of the job store, read from Redis at each scrape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..contract import Queue
from ..errors import BliplineError
from ..ledger.statistics import LedgerStatistics
from ..settings import ClientSettings

log = logging.getLogger("blipline.metrics")


class LedgerCollector(Collector):
    """A collector of statistics that `read` returns; it raises BliplineError without Redis."""

    def __init__(self, read: Callable[[], LedgerStatistics], settings: ClientSettings) -> None:
        self._read = read
        self._settings = settings
        self._is_up = True

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; without Redis, only that it is down has a value."""
        statistics: LedgerStatistics | None = None
        try:
            statistics = self._read()
        except BliplineError as error:
            if self._is_up:
                log.warning("%s", error)
        self._is_up = statistics is not None
        return metric_families(statistics, self._settings)


def metric_families(
    statistics: LedgerStatistics | None, settings: ClientSettings
) -> Iterator[Metric]:
    """Yield the metrics of the job store; None means that Redis is down."""
    yield GaugeMetricFamily(
        "blipline_redis_up",
        "1 if Redis has answered this scrape with the statistics",
        int(statistics is not None),
    )
    if statistics is None:
        return
    yield from _queues(statistics, settings)
    yield from _batches(statistics)
    for name, description, value in (
        ("open_jobs", "Jobs without a result; a chunk of a batch is one job", statistics.open_jobs),
        ("running_jobs", "Jobs that consumers run", statistics.running_jobs),
        ("open_image_bytes", "Bytes of uploaded images of open jobs", statistics.image_bytes),
        ("stored_bytes", "Bytes that Redis stores for all API keys", statistics.stored_bytes),
        ("workers", "Workers that are alive", statistics.workers),
        ("pending_webhooks", "Webhooks to be delivered", statistics.pending_webhooks),
        ("redis_memory_bytes", "Memory that Redis uses", statistics.redis_bytes),
        # Absent if there is no limit.
        ("redis_memory_limit_bytes", "maxmemory of Redis", statistics.redis_limit_bytes or None),
        (
            "open_image_bytes_limit",
            "Maximum of blipline_open_image_bytes (BLIPLINE_MAX_BLOB_MB)",
            settings.max_blob_mb << 20 or None,
        ),
        (
            "stored_bytes_limit",
            "Maximum of blipline_stored_bytes (BLIPLINE_GATEWAY_TOTAL_QUOTA_MB)",
            settings.max_total_bytes or None,
        ),
    ):
        if value is not None:
            yield GaugeMetricFamily(f"blipline_{name}", description, value)
    yield _labelled(
        "blipline_dead_letters",
        "Dead letters, by kind: job, or message (one that no worker can process)",
        "kind",
        {"job": statistics.dead_jobs, "message": statistics.malformed_messages},
    )


def _queues(statistics: LedgerStatistics, settings: ClientSettings) -> Iterator[Metric]:
    yield _labelled(
        "blipline_open_items",
        "Items without a result",
        "queue",
        {
            Queue.INTERACTIVE: statistics.interactive_items,
            Queue.BULK: statistics.bulk_items,
        },
    )
    limits = {
        Queue.INTERACTIVE: settings.max_queued_interactive,
        Queue.BULK: settings.max_queued_bulk,
    }
    yield _labelled(
        "blipline_open_items_limit",
        "Maximum of blipline_open_items, absent if unlimited",
        "queue",
        {queue: limit for queue, limit in limits.items() if limit},
    )
    yield _labelled(
        "blipline_oldest_waiting_seconds",
        "Seconds since the submission of the oldest job that no consumer runs; 0 if none waits",
        "queue",
        {
            Queue.INTERACTIVE: statistics.interactive_waiting_s,
            Queue.BULK: statistics.bulk_waiting_s,
        },
    )


def _batches(statistics: LedgerStatistics) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "blipline_open_batches", "Batches that have not ended", statistics.open_batches
    )
    yield _labelled(
        "blipline_open_batch_items",
        "Items of at most 500 open batches: open, done or failed",
        "state",
        {
            "open": statistics.open_batch_items,
            "done": statistics.done_batch_items,
            "failed": statistics.failed_batch_items,
        },
    )


def _labelled(name: str, description: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, description, labels=[label])
    for label_value, value in values.items():
        family.add_metric([str(label_value)], value)
    return family
