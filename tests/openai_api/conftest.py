"""Fixtures: the gateway of tests/gateway, a fake worker, and clients of the library `openai`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
import redis

from tests.conftest import Finish
from tests.gateway.conftest import (
    Reached,
    gateway,
    gateway_url,
    http,
    redis_url,
    start_gateway,
    stored_keys,
)
from tests.gateway.fake_worker import Answer, running_fake_worker

__all__ = ["gateway", "gateway_url", "http", "redis_url", "start_gateway", "stored_keys"]


@pytest.fixture
def ai(gateway: Reached) -> Iterator[openai.OpenAI]:
    """Yield a client of the shared gateway, as acme, which does not retry."""
    base_url = f"{gateway.url}/openai/v1"
    with openai.OpenAI(base_url=base_url, api_key=gateway.keys["acme"], max_retries=0) as client:
        yield client


class Recorder:
    """A fake worker's answers, and the jobs that it has received."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, dict[str, Any]]] = []
        self.options: list[dict[str, Any]] = []
        self.answer: Answer = lambda task, item: {"text": f"answer to {item.get('question', '')}"}

    def __call__(self, task: str, item: dict[str, Any]) -> dict[str, Any]:
        self.jobs.append((task, item))
        return self.answer(task, item)

    def observe(self, payload: dict[str, Any]) -> None:
        self.options.append(payload["options"])


@pytest.fixture
def worker(connection: redis.Redis, finish: Finish) -> Iterator[Recorder]:
    """Yield a fake worker that ends every job."""
    recorder = Recorder()
    with running_fake_worker(connection, finish, recorder, recorder.observe):
        yield recorder


@pytest.fixture
def raw(http: httpx.Client) -> Callable[..., httpx.Response]:
    """Return a function that posts to a route of the API without the library."""

    def post(route: str, **request: Any) -> httpx.Response:
        return http.post(f"/openai/v1/{route}", **request)

    return post
