"""The engine's figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

#: Figure of the loop, name and help of the metric.
COUNTERS = (
    ("steps", "steps", "Steps of the loop"),
    ("admitted", "rows", "Rows that were begun"),
    ("joined", "joined_requests", "Requests that another's row answered as well"),
    ("answered", "answers", "Requests that ended"),
    ("failed", "failures", "Requests that ended with an error"),
    ("tokens", "tokens", "Tokens generated"),
    ("encoded_images", "encoded_images", "Images that went through a vision encoder"),
    ("cache_hits", "feature_hits", "Rows whose image features were at hand"),
    ("row_steps", "row_steps", "Rows, summed over steps"),
    ("busy_s", "busy_seconds", "Seconds spent in steps"),
)
GAUGES = (
    ("active", "active_rows", "Rows being run"),
    ("waiting", "waiting_rows", "Rows not begun"),
    ("last_step_s", "last_step_seconds", "Seconds that the last step took"),
    ("feature_bytes", "feature_bytes", "Bytes of image features held"),
    ("device_bytes", "device_bytes", "Bytes allocated on a CUDA device"),
)


class EngineCollector:
    """Reads the figures when it is asked for them."""

    def __init__(self, figures: Callable[[], dict[str, float]]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        figures = self._figures()
        for figure, name, about in COUNTERS:
            yield CounterMetricFamily(f"blipline_engine_{name}", about, figures[figure])
        for figure, name, about in GAUGES:
            yield GaugeMetricFamily(f"blipline_engine_{name}", about, figures[figure])


def serve(port: int, figures: Callable[[], dict[str, float]]) -> None:
    """Answer /metrics on this port from a thread; raises OSError if the port cannot be had."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(figures))
    start_http_server(port, registry=registry)
