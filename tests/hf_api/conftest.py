"""Fixtures: the gateway of tests/gateway, a fake worker, and a client of `huggingface_hub`."""

from __future__ import annotations

import pytest
from huggingface_hub import InferenceClient

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
def hub(gateway: Reached) -> InferenceClient:
    """Return a client of the shared gateway, as acme."""
    return InferenceClient(model=f"{gateway.url}/hf", token=gateway.keys["acme"])
