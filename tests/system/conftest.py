"""The whole system: a real Redis, a real worker with the demo model, real processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from demo.stack import running_redis, running_worker
from producer import Client


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
