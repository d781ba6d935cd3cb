"""A gateway as it runs: a process of its own on a free port, with keys for two names."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import pytest
import redis
from fastapi import FastAPI

from demo.stack import listening_gateway, running_gateway
from producer.gateway.api_keys import ApiKeys
from producer.gateway.server import Server, listen, url_of
from producer.gateway.settings import GatewaySettings
from producer.ledger.keys import Keys
from tests.webhooks.sending import end_job, outbox, outcomes, start_sender

from .samples import bearer

#: Fixtures of the tests about webhooks.
__all__ = ["end_job", "outbox", "outcomes", "start_sender"]

#: Those who have keys.
NAMES: Final = ("acme", "other")
#: What the gateway of most tests is told: the page is another package's, and takes long to import.
SETTINGS: Final = {"BLIPLINE_PAGE": "false", "BLIPLINE_GATEWAY_RATE": "0"}


@dataclass
class Reached:
    """A gateway, and HTTP clients of it."""

    url: str
    #: An API key of each name.
    keys: Mapping[str, str]
    _clients: ExitStack = field(default_factory=ExitStack)

    def client(self, name: str | None = "acme") -> httpx.Client:
        """A client with the key of a name; None: one without a key."""
        return self._clients.enter_context(
            httpx.Client(base_url=self.url, headers=self.headers(name), timeout=60)
        )

    def async_client(self, name: str | None = "acme") -> httpx.AsyncClient:
        """The same for asyncio; use it with `async with`."""
        return httpx.AsyncClient(base_url=self.url, headers=self.headers(name), timeout=60)

    def headers(self, name: str | None) -> dict[str, str]:
        return {} if name is None else bearer(self.keys[name])

    def close(self) -> None:
        self._clients.close()


@dataclass
class Started(Reached):
    """One that a test has for itself."""

    process: subprocess.Popen[bytes] = None  # type: ignore[assignment]
    log: Path = None  # type: ignore[assignment]

    def output(self) -> str:
        """All that it said so far, on stdout and stderr."""
        return self.log.read_text()


@dataclass(frozen=True)
class _Kept:
    """Keys that outlive the flushing of the Redis that they were made in."""

    of_names: Mapping[str, str]
    dumps: Mapping[str, bytes]

    def restore(self, redis_url: str) -> None:
        with redis.Redis.from_url(redis_url) as connection:
            for key, dump in self.dumps.items():
                connection.restore(key, 0, dump, replace=True)


@pytest.fixture(scope="session")
def kept_keys(redis_server: str) -> _Kept:
    with redis.Redis.from_url(redis_server) as connection:
        keys = ApiKeys(connection)
        made = {name: keys.create(name) for name in NAMES}
        kept = (Keys().api_keys, Keys().webhook_secrets)
        return _Kept(made, {key: connection.dump(key) for key in kept})


@pytest.fixture
def redis_url(redis_server: str, request: pytest.FixtureRequest) -> str:
    """An empty Redis. The gateway that tests share has one of its own: it sends all webhooks that
    it finds, also those of tests that do so themselves."""
    url = _shared(redis_server) if "gateway" in request.fixturenames else redis_server
    with redis.Redis.from_url(url) as connection:
        connection.flushdb()
    return url


# Not for the whole run: other packages' tests do not need it.
@pytest.fixture(scope="package")
def gateway_url(redis_server: str, kept_keys: _Kept) -> Iterator[str]:
    with running_gateway(_shared(redis_server), settings=SETTINGS) as url:
        yield url


@pytest.fixture
def gateway(gateway_url: str, kept_keys: _Kept, redis_url: str) -> Iterator[Reached]:
    """The process that most tests share, on an empty Redis, without a rate limit and a page.

    It remembers ids of earlier tests for a while: give jobs and batches ids of the test's own.
    `finish(<id inside>, results)` ends jobs as a worker does: `acme.job.<id>`, and of a batch
    `acme.batch.<id>:<chunk>`.
    """
    kept_keys.restore(redis_url)
    reached = Reached(gateway_url, kept_keys.of_names)
    yield reached
    reached.close()


@pytest.fixture
def http(gateway: Reached) -> httpx.Client:
    """A client of it, as acme."""
    return gateway.client()


#: Starts a gateway with settings of the test's own.
Start = Callable[..., Started]


@pytest.fixture
def start_gateway(redis_url: str, kept_keys: _Kept) -> Iterator[Start]:
    """Starts gateways for one test alone: `start_gateway(BLIPLINE_GATEWAY_RATE="3")`."""
    kept_keys.restore(redis_url)
    with ExitStack() as stack:

        def start(at: str = redis_url, **settings: str) -> Started:
            return stack.enter_context(_started(at, kept_keys.of_names, settings))

        yield start


#: Runs an app and yields its address.
Serve = Callable[[FastAPI], AbstractContextManager[str]]


@pytest.fixture
def served() -> Serve:
    """Runs an app under the real server, in a thread, where a test needs to reach inside."""
    return _served


@contextmanager
def _served(app: FastAPI) -> Iterator[str]:
    """The real server, in a thread."""
    ready = threading.Event()
    listening = listen(GatewaySettings(gateway_port=0))
    server = Server(app, ready.set)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        assert ready.wait(60)
        yield url_of(listening)
    finally:
        server.should_exit = True
        thread.join()


def _shared(redis_server: str) -> str:
    """Another database of the same server."""
    return redis_server.removesuffix("/0") + "/1"


@contextmanager
def _started(
    redis_url: str, keys: Mapping[str, str], settings: Mapping[str, str]
) -> Iterator[Started]:
    with listening_gateway(redis_url, settings={**SETTINGS, **settings}) as gateway:
        started = Started(gateway.address, keys, process=gateway.process, log=gateway.log)
        try:
            yield started
        finally:
            started.close()
            # What it has not answered yet, nobody waits for.
            gateway.process.kill()
