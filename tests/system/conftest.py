"""The whole system: a real Redis, a real worker with the demo model, real processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import redis
from transformers import Blip2ForConditionalGeneration

from config.settings import DEMO_MODEL
from demo.stack import free_port, running_gateway, running_redis, running_worker
from producer import Client
from producer.gateway.access.api_keys import ApiKeys
from producer.gateway.access.key_policy import KeyPolicy
from tests.models.adapters import lora, save_adapter
from tests.opt_checkpoint import checkpoint
from tests.serving import serving
from tests.system.collector import Collector
from tests.system.null_worker import null_worker

__all__ = ["checkpoint", "null_worker"]

#: Options of a text that takes a while: it is streamed in parts, and can be cancelled.
LONG: Final[dict[str, Any]] = {"max_new_tokens": 150, "min_new_tokens": 150}


@dataclass(frozen=True)
class Stack:
    """The address of the running system."""

    redis_url: str
    #: The directory of the worker's adapter `red`.
    adapter: Path
    #: The worker's run directory.
    run_dir: Path
    #: The port of the worker's metrics.
    metrics_port: int


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    """The collector of that system's traces."""
    collector = Collector()
    with serving(collector):
        yield collector


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Stack]:
    """One Redis and one worker for all tests that leave them running."""
    adapter = tmp_path_factory.mktemp("red")
    config = lora(target_modules=["q_proj", "fc1", "qkv"])
    save_adapter(Blip2ForConditionalGeneration, DEMO_MODEL, adapter, config, scale=0.3)
    port = free_port()
    settings = {"BLIPLINE_ADAPTERS": f"red={adapter}", "BLIPLINE_METRICS_PORT": str(port)}
    settings |= collector.environment
    with running_redis() as url, running_worker(url, settings) as worker:
        yield Stack(url, adapter, worker.run_dir, port)


@pytest.fixture
def user(stack: Stack) -> Iterator[Client]:
    """A client of that system."""
    with Client(stack.redis_url) as client:
        yield client


@pytest.fixture(scope="package")
def gateway(stack: Stack, collector: Collector) -> Iterator[httpx.Client]:
    """A client of that system's gateway, which serves no page."""
    settings = {"BLIPLINE_PAGE": "false", **collector.environment}
    with (
        running_gateway(stack.redis_url, settings=settings) as url,
        redis.Redis.from_url(stack.redis_url) as keys,
    ):
        headers = {"Authorization": f"Bearer {ApiKeys(keys).create('acme')}"}
        with httpx.Client(base_url=url, headers=headers, timeout=90) as client:
            yield client


@pytest.fixture
def limited_key(stack: Stack) -> str:
    """A key for one request per minute, of a name that has no other."""
    with redis.Redis.from_url(stack.redis_url) as keys:
        return ApiKeys(keys).create(f"limited-{free_port()}", KeyPolicy(rate=1))
