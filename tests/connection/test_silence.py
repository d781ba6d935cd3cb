"""A Redis that keeps connections and does not answer, as behind a network that drops packets."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from producer import AsyncClient, ConnectionFailed
from producer.client.probe_client import ProbeClient
from producer.connection.connect import connect
from producer.gateway.app import create_app
from producer.gateway.settings import GatewaySettings
from producer.settings import ClientSettings
from tests.gateways import running_app
from tests.monitoring import samples
from tests.redis_servers import Server, wait_until

#: Instead of 3 s.
PROBE_S = 1.0
#: Less than three of them.
MAX_S = 2.8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def url(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(ProbeClient, "_timeout_s", PROBE_S)
    return f"redis://127.0.0.1:{server.port}/0"


def test_a_timeout_is_not_repeated_outside_an_outage_that_is_ridden_out(
    server: Server, url: str
) -> None:
    with connect(url, timeout_s=PROBE_S) as client:
        client.ping()
        with server.frozen():
            started_at = time.monotonic()
            with pytest.raises(redis.TimeoutError):
                client.ping()
            assert time.monotonic() - started_at < MAX_S
        assert client.ping()


def test_a_wait_is_logged_after_the_first_timeout(
    server: Server, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[bool] = []
    with connect(url, patient=True, timeout_s=PROBE_S) as client:
        client.ping()
        thread = threading.Thread(target=lambda: answers.append(client.ping()))
        with server.frozen():
            started_at = time.monotonic()
            thread.start()
            wait_until(lambda: "Trying again for up to 600 s" in caplog.text, "the log", 20)
            assert time.monotonic() - started_at < MAX_S
        thread.join(20)
    assert answers == [True]


def test_a_probe_fails_soon_and_succeeds_at_once_afterwards(server: Server, url: str) -> None:
    async def probe() -> None:
        async with AsyncClient(settings=ClientSettings(redis_url=url)) as client:
            await client.probe()
            with server.frozen():
                for read in (client.probe, client.probe_statistics):
                    started_at = time.monotonic()
                    with pytest.raises(ConnectionFailed, match="imeout"):
                        await read()
                    assert time.monotonic() - started_at < MAX_S
            await client.probe()

    asyncio.run(probe())


def test_a_gateway_still_serves_its_metrics_and_shows_that_redis_is_down(
    server: Server, url: str
) -> None:
    with running_app(create_app(GatewaySettings.load(redis_url=url))) as api:
        assert samples(f"{api}/metrics")["blipline_redis_up"] == 1
        with server.frozen():
            started_at = time.monotonic()
            frozen = samples(f"{api}/metrics")
            assert time.monotonic() - started_at < MAX_S
        assert frozen["blipline_redis_up"] == 0
        assert any(name.startswith("blipline_gateway_") for name in frozen)
        assert samples(f"{api}/metrics")["blipline_redis_up"] == 1
