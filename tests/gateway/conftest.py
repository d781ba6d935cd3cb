"""Fixtures: gateways in processes of their own, with API keys of two tenants."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import pytest
import redis
from fastapi import FastAPI

from demo.stack import listening_gateway
from producer.gateway.access.api_keys import ApiKeys
from producer.gateway.app import create_app
from producer.gateway.settings import GatewaySettings
from producer.hf_api import mount as mount_hf_api
from producer.ledger.keys import Keys
from producer.openai_api import mount as mount_openai_api
from producer.replicate_api import mount as mount_replicate_api
from tests.gateways import running_app
from tests.webhooks.senders import end_job, outbox, outcomes, start_sender

from .samples import bearer

#: Fixtures of the webhook tests.
__all__ = ["end_job", "outbox", "outcomes", "start_sender"]

#: Tenants with keys.
NAMES: Final = ("acme", "other")
#: Settings of most gateways; the page has tests of its own and takes long to import.
SETTINGS: Final = {"BLIPLINE_PAGE": "false", "BLIPLINE_GATEWAY_RATE": "0"}


@dataclass
class Reached:
    """A running gateway and its HTTP clients."""

    url: str
    #: An API key of each tenant.
    keys: Mapping[str, str]
    _clients: ExitStack = field(default_factory=ExitStack)

    def client(self, name: str | None = "acme") -> httpx.Client:
        """Return a client with the key of a tenant; None stands for no key."""
        return self._clients.enter_context(
            httpx.Client(base_url=self.url, headers=self.headers(name), timeout=60)
        )

    def async_client(self, name: str | None = "acme") -> httpx.AsyncClient:
        """Return an asynchronous client, for `async with`."""
        return httpx.AsyncClient(base_url=self.url, headers=self.headers(name), timeout=60)

    def headers(self, name: str | None) -> dict[str, str]:
        return {} if name is None else bearer(self.keys[name])

    def close(self) -> None:
        self._clients.close()


@dataclass
class Started(Reached):
    """A gateway for a single test."""

    process: subprocess.Popen[bytes] = None  # type: ignore[assignment]
    log: Path = None  # type: ignore[assignment]

    def output(self) -> str:
        """Return its output so far, of stdout and stderr."""
        return self.log.read_text()


@dataclass(frozen=True)
class StoredKeys:
    """API keys that can be restored after the Redis is flushed."""

    by_name: Mapping[str, str]
    dumps: Mapping[str, bytes]

    def restore(self, redis_url: str) -> None:
        with redis.Redis.from_url(redis_url) as connection:
            for key, dump in self.dumps.items():
                connection.restore(key, 0, dump, replace=True)


@pytest.fixture(scope="session")
def stored_keys(redis_server: str) -> StoredKeys:
    with redis.Redis.from_url(redis_server) as connection:
        keys = ApiKeys(connection)
        created = {name: keys.create(name) for name in NAMES}
        redis_keys = (Keys().api_keys, Keys().webhook_secrets)
        return StoredKeys(created, {key: connection.dump(key) for key in redis_keys})


@pytest.fixture
def redis_url(
    redis_server: str,
    connection_to: Callable[[str], redis.Redis],
    request: pytest.FixtureRequest,
) -> str:
    """Return the URL of an empty Redis.

    The shared gateway has another database, because it would send the webhooks of all tests.
    """
    url = _shared(redis_server) if "gateway" in request.fixturenames else redis_server
    connection_to(url).flushdb()
    return url


# Per package: the tests of other packages do not need it.
@pytest.fixture(scope="package")
def gateway_url(redis_server: str, stored_keys: StoredKeys) -> Iterator[str]:
    with running_app(_app(_shared(redis_server), {})) as url:
        yield url


@pytest.fixture
def gateway(gateway_url: str, stored_keys: StoredKeys, redis_url: str) -> Iterator[Reached]:
    """Yield the gateway that most tests share, on an empty Redis, without rate limit and page.

    It caches ids of earlier tests, so each test needs ids of its own. `finish(<inner id>, results)`
    ends jobs as a worker does: `acme.job.<id>`, or `acme.batch.<id>:<chunk>` of a batch.
    """
    stored_keys.restore(redis_url)
    reached = Reached(gateway_url, stored_keys.by_name)
    yield reached
    reached.close()


@pytest.fixture
def http(gateway: Reached) -> httpx.Client:
    """Return a client of the shared gateway, as acme."""
    return gateway.client()


#: Starts a gateway with given settings, in a process of its own.
Start = Callable[..., Started]
#: Runs a gateway with given settings, in this process, which takes a tenth of the time.
Run = Callable[..., Reached]


@pytest.fixture
def start_gateway(redis_url: str, stored_keys: StoredKeys) -> Iterator[Start]:
    """Yield a function that starts a gateway: `start_gateway(BLIPLINE_GATEWAY_RATE="3")`."""
    stored_keys.restore(redis_url)
    with ExitStack() as stack:

        def start(at: str = redis_url, **settings: str) -> Started:
            return stack.enter_context(_started(at, stored_keys.by_name, settings))

        yield start


@pytest.fixture
def run_gateway(redis_url: str, stored_keys: StoredKeys) -> Iterator[Run]:
    """Yield a function that runs a gateway: `run_gateway(BLIPLINE_GATEWAY_RATE="3")`."""
    stored_keys.restore(redis_url)
    with ExitStack() as stack:

        def run(**settings: str) -> Reached:
            url = stack.enter_context(running_app(_app(redis_url, settings)))
            reached = Reached(url, stored_keys.by_name)
            stack.callback(reached.close)
            return reached

        yield run


#: Runs an app and yields its URL.
Serve = Callable[[FastAPI], AbstractContextManager[str]]


@pytest.fixture
def served() -> Serve:
    """Return a context manager that runs an app under the real server, in this process."""
    return running_app


def _shared(redis_server: str) -> str:
    """Return another database of the same server."""
    return redis_server.removesuffix("/0") + "/1"


def _app(redis_url: str, settings: Mapping[str, str]) -> FastAPI:
    """Return a gateway's app with the routes for clients of other services."""
    fields = {
        name.removeprefix("BLIPLINE_").lower(): value
        for name, value in {**SETTINGS, **settings}.items()
    }
    app = create_app(GatewaySettings.load(redis_url=redis_url, **fields))
    for mount_api in (mount_openai_api, mount_hf_api, mount_replicate_api):
        mount_api(app)
    return app


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
            # Open requests need no response.
            gateway.process.kill()
