"""Fixtures of several packages: a real Redis, and clients of it."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from config.celeryconfig import celery_settings
from config.settings import WorkerSettings
from demo.stack import running_redis
from producer import Client
from tests.lanes import (
    own_temporary_directory,
    pytest_addoption,
    pytest_collection,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_runtestloop,
)
from tests.redis_servers import Server

__all__ = [
    "own_temporary_directory",
    "pytest_addoption",
    "pytest_collection",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_runtestloop",
]

# A shell starts background jobs with SIGINT ignored, and their children inherit that; the processes
# that tests interrupt must not.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _keep_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep commands that tests call in this process from replacing the log handlers of pytest."""
    monkeypatch.setattr("producer.logs.configure", lambda *_: None)


#: Stores a chunk's results as a worker does.
Finish = Callable[[str, Sequence[Mapping[str, Any]]], None]


@pytest.fixture(scope="session", autouse=True)
def no_settings_from_outside() -> None:
    """Remove the developer's BLIPLINE_ variables: tests must not depend on them."""
    for name in [name for name in os.environ if name.startswith("BLIPLINE_")]:
        del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def authorities_loaded_once() -> Iterator[None]:
    """Share httpx's TLS context: each of its clients would load the authorities, in 30 ms."""
    create = ssl.create_default_context
    load = cache(lambda path: create(cafile=path))

    def create_or_share(*arguments: Any, **options: Any) -> ssl.SSLContext:
        if arguments or options.keys() != {"cafile"}:
            return create(*arguments, **options)
        return load(options["cafile"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", create_or_share)
        yield


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """One redis-server for the whole run."""
    with running_redis() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(redis_server) as connection:
        connection.flushdb()
    return redis_server


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """A plain connection to look behind the scenes."""
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    """A client of that Redis. No worker runs."""
    with Client(redis_url) as client:
        yield client


@pytest.fixture
def finish(redis_url: str) -> Iterator[Finish]:
    """Stores a chunk's results as a worker does: `finish(task_id, results)`."""
    app = Celery("tests", set_as_current=False)
    app.conf.update(celery_settings(WorkerSettings(redis_url=redis_url)))

    def store(task_id: str, results: Sequence[Mapping[str, Any]]) -> None:
        app.backend.store_result(task_id, results, "SUCCESS")

    yield store
    app.backend.client.close()
    app.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Start a Redis that the test may kill."""
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()
