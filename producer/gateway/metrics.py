"""Figures for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """What one gateway counts; each has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "blipline_gateway_requests",
            "Requests that were answered, by the route's template",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "blipline_gateway_request_seconds",
            "Seconds from a request to the end of its answer",
            ["method", "route"],
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )
        self.open_items = Gauge(
            "blipline_open_items", "Items without a result", ["queue"], registry=self.registry
        )
        self.streams = Gauge(
            "blipline_gateway_streams", "Streams of events that are open", registry=self.registry
        )
        self.webhooks = Counter(
            "blipline_gateway_webhooks",
            "Webhooks that were tried, by how it ended: sent, failed (to be tried again), given_up",
            ["outcome"],
            registry=self.registry,
        )
