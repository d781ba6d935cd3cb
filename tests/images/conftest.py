"""An image host and a fetcher for one reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from tests.images.image_host import (
    Host,
    Server,
    running_fetcher,
)
from tests.serving import serving
from worker.images.fetcher import FetchResult


@pytest.fixture
def host() -> Iterator[str]:
    """The address of an image host."""
    Host.requests.clear()
    Host.stop.clear()
    with serving(Server(("127.0.0.1", 0), Host)) as server:
        yield f"http://127.0.0.1:{server.server_port}"
        Host.stop.set()


@pytest.fixture
def fetch(connection: redis.Redis) -> Iterator[Callable[[str], FetchResult]]:
    """`fetch(reference)`: the result of one reference."""
    with running_fetcher(connection) as source:
        yield lambda reference: next(source.fetch([reference]))
