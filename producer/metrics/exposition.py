"""The text of metrics, in the format that a scraper accepts."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class JoinedCollector(Collector):
    """The metrics of a collector, and further ones."""

    def __init__(self, collector: Collector, further: Iterable[Metric]) -> None:
        self._collector = collector
        self._further = further

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics, once."""
        return chain(self._collector.collect(), self._further)


def encode_metrics(collector: Collector, accept: str) -> tuple[bytes, str]:
    """Return the text and its content type: OpenMetrics if the header Accept asks for it."""
    encode, content_type = choose_encoder(accept)
    return encode(collector), content_type
