"""Prometheus metrics of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

#: Field of EngineStats, name of the metric and help text.
COUNTERS = (
    ("steps", "steps", "Steps of the loop"),
    ("admitted", "rows", "Rows admitted to a lane"),
    ("joined", "joined_requests", "Requests that joined an existing row"),
    ("answered", "answers", "Requests that ended"),
    ("failed", "failures", "Requests that ended with an error"),
    ("tokens", "tokens", "Tokens generated"),
    ("encoded_images", "encoded_images", "Images run through a vision encoder"),
    ("cache_hits", "feature_hits", "Rows whose image features were cached"),
    ("row_steps", "row_steps", "Rows, summed over steps"),
    ("busy_s", "busy_seconds", "Seconds spent in steps"),
)
GAUGES = (
    ("active", "active_rows", "Rows running"),
    ("waiting", "waiting_rows", "Rows waiting"),
    ("last_step_s", "last_step_seconds", "Seconds of the last step"),
    ("feature_bytes", "feature_bytes", "Bytes of cached image features"),
    ("device_bytes", "device_bytes", "Bytes allocated on a CUDA device"),
)


class EngineCollector:
    """A collector that reads the engine's statistics at each scrape."""

    def __init__(self, stats: Callable[[], dict[str, float]]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        for field, name, description in COUNTERS:
            yield CounterMetricFamily(f"blipline_engine_{name}", description, stats[field])
        for field, name, description in GAUGES:
            yield GaugeMetricFamily(f"blipline_engine_{name}", description, stats[field])


def serve(port: int, stats: Callable[[], dict[str, float]]) -> None:
    """Serve /metrics on a port in a thread. Raises OSError if the port is not available."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(stats))
    start_http_server(port, registry=registry)
