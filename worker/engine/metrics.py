"""Prometheus metrics of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from worker.engine.stats import EngineStats
from worker.metrics.buffered_histogram import BufferedHistogram
from worker.metrics.shared_metrics import LIVE

#: Field of EngineStats, name of the metric and help text.
COUNTERS: Final = (
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
GAUGES: Final = (
    ("active", "active_rows", "Rows running"),
    ("waiting", "waiting_rows", "Rows waiting"),
    ("last_step_s", "last_step_seconds", "Seconds of the last step"),
    ("feature_bytes", "feature_bytes", "Bytes of cached image features"),
    ("device_bytes", "device_bytes", "Bytes allocated on a CUDA device"),
    ("device_limit_bytes", "device_limit_bytes", "Bytes of memory of the CUDA device"),
)
#: Bounds of steps, from a small model on a GPU to a large one on a CPU.
STEP_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
ROW_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
WAIT_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class EngineMetrics:
    """The metrics of one engine, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters = {
            field: Counter(f"blipline_engine_{name}", description, registry=self.registry)
            for field, name, description in COUNTERS
        }
        self._gauges = {
            field: Gauge(
                f"blipline_engine_{name}",
                description,
                registry=self.registry,
                multiprocess_mode=LIVE,
            )
            for field, name, description in GAUGES
        }
        self._models = Gauge(
            "blipline_engine_model_info",
            "1 for each loaded model",
            ["model"],
            registry=self.registry,
            multiprocess_mode=LIVE,
        )
        self._histograms: list[BufferedHistogram] = []
        self.step_seconds = self._histogram(
            "step_seconds", "Seconds of a step of the loop", STEP_BUCKETS_S
        )
        self.step_rows = self._histogram("step_rows", "Rows of a step of the loop", ROW_BUCKETS)
        self.wait_seconds = self._histogram(
            "queue_seconds",
            "Seconds that a row waited in the engine until it was admitted",
            WAIT_BUCKETS_S,
        )
        self.first_token_seconds = self._histogram(
            "first_token_seconds",
            "Seconds from the arrival of a row that is decoded in flight to its first token",
            WAIT_BUCKETS_S,
        )
        self._published: dict[str, float] = dict.fromkeys(self._counters, 0)

    def _histogram(self, name: str, description: str, bounds: Sequence[float]) -> BufferedHistogram:
        histogram = BufferedHistogram(f"blipline_engine_{name}", description, bounds, self.registry)
        self._histograms.append(histogram)
        return histogram

    def describe(self, models: Iterable[str]) -> None:
        """Publish the names of the engine's models."""
        for name in models:
            self._models.labels(name).set(1)

    def publish(self, stats: EngineStats) -> None:
        """Publish the engine's statistics and histograms; for each second, not for each step."""
        for field, counter in self._counters.items():
            value = getattr(stats, field)
            counter.inc(value - self._published[field])
            self._published[field] = value
        for field, gauge in self._gauges.items():
            gauge.set(getattr(stats, field))
        for histogram in self._histograms:
            histogram.publish()

    def serve(self, port: int) -> None:
        """Serve /metrics on a port in a thread. Raises OSError if the port is not available."""
        start_http_server(port, registry=self.registry)
