"""Fixtures: the gateway of tests/gateway, a fake worker, and a client of `replicate`."""

from __future__ import annotations

import pytest
from replicate.client import Client as ReplicateClient

from tests.gateway.conftest import (
    Reached,
    gateway,
    gateway_url,
    http,
    redis_url,
    run_gateway,
    stored_keys,
)
from tests.gateway.fake_worker import worker

__all__ = ["gateway", "gateway_url", "http", "redis_url", "run_gateway", "stored_keys", "worker"]


@pytest.fixture
def api(gateway: Reached) -> ReplicateClient:
    """Return a client of the shared gateway, as acme."""
    client = ReplicateClient(gateway.keys["acme"], base_url=f"{gateway.url}/replicate")
    client.poll_interval = 0.05
    return client
