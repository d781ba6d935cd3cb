"""Prometheus metrics of the gateway."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "blipline_gateway_requests",
            "Requests, by route template and status",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "blipline_gateway_request_seconds",
            "Seconds from the start of a request to the end of its response",
            ["method", "route"],
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )
        self.streams = Gauge(
            "blipline_gateway_streams", "Open event streams", registry=self.registry
        )
        self.webhooks = Counter(
            "blipline_gateway_webhooks",
            "Webhook attempts, by outcome: sent, failed (to be retried), given_up",
            ["outcome"],
            registry=self.registry,
        )
