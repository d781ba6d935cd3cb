"""The whole system: a real Redis, a real worker with the demo model, real processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
import redis

from demo.stack import running_gateway, running_redis, running_worker
from producer import Client
from producer.gateway.api_keys import ApiKeys


@dataclass(frozen=True)
class Stack:
    """The address of the running system."""

    redis_url: str


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    """One Redis and one worker for all tests that leave them running."""
    with running_redis() as url, running_worker(url):
        yield Stack(url)


@pytest.fixture
def user(stack: Stack) -> Iterator[Client]:
    """A client of that system."""
    with Client(stack.redis_url) as client:
        yield client


@pytest.fixture(scope="package")
def gateway(stack: Stack) -> Iterator[httpx.Client]:
    """A client of that system's gateway, which serves no page."""
    settings = {"BLIPLINE_PAGE": "false"}
    with (
        running_gateway(stack.redis_url, settings=settings) as url,
        redis.Redis.from_url(stack.redis_url) as keys,
    ):
        headers = {"Authorization": f"Bearer {ApiKeys(keys).create('acme')}"}
        with httpx.Client(base_url=url, headers=headers, timeout=90) as client:
            yield client
