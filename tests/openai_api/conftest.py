"""Fixtures: the gateway of tests/gateway, a fake worker, and clients of the library `openai`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.gateway.conftest import (
    Reached,
    gateway,
    gateway_url,
    http,
    redis_url,
    run_gateway,
    start_gateway,
    stored_keys,
)
from tests.gateway.fake_worker import Recorder, worker

__all__ = [
    "Recorder",
    "gateway",
    "gateway_url",
    "http",
    "redis_url",
    "run_gateway",
    "start_gateway",
    "stored_keys",
    "worker",
]


@pytest.fixture
def ai(gateway: Reached) -> Iterator[openai.OpenAI]:
    """Yield a client of the shared gateway, as acme, which does not retry."""
    base_url = f"{gateway.url}/openai/v1"
    with openai.OpenAI(base_url=base_url, api_key=gateway.keys["acme"], max_retries=0) as client:
        yield client


@pytest.fixture
def raw(http: httpx.Client) -> Callable[..., httpx.Response]:
    """Return a function that posts to a route of the API without the library."""

    def post(route: str, **request: Any) -> httpx.Response:
        return http.post(f"/openai/v1/{route}", **request)

    return post
