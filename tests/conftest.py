"""Fixtures of several packages: a real Redis, and clients of it."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
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
    monkeypatch.setattr("producer.observability.logs.configure", lambda *_: None)


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


@pytest.fixture(scope="session")
def connection_to() -> Iterator[Callable[[str], redis.Redis]]:
    """Return the plain connection to a Redis: each test would connect anew."""
    with ExitStack() as stack:
        yield cache(lambda url: stack.enter_context(redis.Redis.from_url(url)))


@pytest.fixture(scope="session")
def backend_of() -> Iterator[Callable[[str], Any]]:
    """Return the result backend of a worker over a Redis: each test would build an app."""
    with ExitStack() as stack:

        def create(url: str) -> Any:
            app = stack.enter_context(Celery("tests", set_as_current=False))
            app.conf.update(celery_settings(WorkerSettings(redis_url=url)))
            backend = app.backend
            stack.callback(backend.client.close)
            return backend

        yield cache(create)


@pytest.fixture
def redis_url(redis_server: str, connection_to: Callable[[str], redis.Redis]) -> str:
    """An empty Redis."""
    connection_to(redis_server).flushdb()
    return redis_server


@pytest.fixture
def connection(redis_url: str, connection_to: Callable[[str], redis.Redis]) -> redis.Redis:
    """A plain connection to look behind the scenes."""
    return connection_to(redis_url)


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    """A client of that Redis. No worker runs."""
    with Client(redis_url) as client:
        yield client


@pytest.fixture
def finish(redis_url: str, backend_of: Callable[[str], Any]) -> Finish:
    """Stores a chunk's results as a worker does: `finish(task_id, results)`."""
    backend = backend_of(redis_url)

    def store(task_id: str, results: Sequence[Mapping[str, Any]]) -> None:
        backend.store_result(task_id, results, "SUCCESS")

    return store


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Start a Redis that the test may kill."""
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()
