"""Size limits and timeouts of the HTTP protocol, and ignored upgrades."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from producer.gateway.app import create_app
from producer.gateway.http.http_protocol import BoundedProtocol
from producer.gateway.settings import GatewaySettings

from .conftest import Reached, Serve
from .raw_http import talk


def test_an_endless_head_is_cut_off(gateway: Reached) -> None:
    line = b"X-Padding: " + b"x" * 1000 + b"\r\n"
    answer = talk(gateway.url, b"GET /healthz HTTP/1.1\r\nHost: x\r\n", *[line] * 100_000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
    assert gateway.client().get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "data", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half a head"]
)
def test_a_connection_without_a_request_is_closed(
    served: Serve, redis_url: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedProtocol, "head_s", 0.3)
    app = create_app(GatewaySettings.load(redis_url=redis_url))
    with served(app) as url:
        assert talk(url, data) == b""
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_a_connection_is_reusable_after_a_pause(
    served: Serve, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedProtocol, "head_s", 0.3)
    app = create_app(GatewaySettings.load(redis_url=redis_url))
    with served(app) as url, httpx.Client(base_url=url) as client:
        for _ in range(2):
            assert client.get("/healthz").status_code == 200
            (before,) = client._transport._pool.connections  # type: ignore[attr-defined]
            time.sleep(0.6)
        assert not before.is_closed()


def test_a_client_that_reads_nothing_is_disconnected(
    served: Serve, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedProtocol, "send_s", 0.3)
    app = create_app(GatewaySettings.load(redis_url=redis_url))

    ended = threading.Event()

    async def zeros() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 16)
            await asyncio.sleep(0)

    class Endless(StreamingResponse):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await super().__call__(scope, receive, send)
            finally:
                ended.set()

    async def endless(_: Request) -> Endless:
        return Endless(zeros())

    app.router.routes.append(Route("/endless", endless))
    with served(app) as url:
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port or 80)) as connection:
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            assert ended.wait(30)


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n"]
)
def test_invalid_http_is_rejected(gateway: Reached, data: bytes) -> None:
    assert talk(gateway.url, data).startswith(b"HTTP/1.1 400 ")
    assert gateway.client().get("/healthz").status_code == 200


UPGRADE = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
)
BODY = b'{"task": "caption", "image": "https://images.example.com/cat.jpg"}'


def job_head(gateway: Reached, more: bytes) -> bytes:
    key = gateway.keys["acme"].encode()
    return (
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n%sContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nAuthorization: Bearer %s\r\n\r\n" % (more, len(BODY), key)
    )


@pytest.mark.parametrize("at", [0, 1, 40, None], ids=["together", "begun", "middle", "apart"])
def test_a_protocol_upgrade_is_ignored(gateway: Reached, at: int | None) -> None:
    message = job_head(gateway, UPGRADE) + BODY
    last = job_head(gateway, b"Connection: close\r\n") + BODY
    address = httpx.URL(gateway.url)
    cut = len(message) - len(BODY) if at is None else at
    with socket.create_connection((address.host, address.port or 80), timeout=60) as connection:
        connection.sendall(message[:cut])
        # Long enough that it usually arrives alone.
        time.sleep(0.05)
        connection.sendall(message[cut:] + message + last)
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    # The connection continues with pipelined requests.
    assert answers.count(b"HTTP/1.1 202 ") == answers.count(b"HTTP/1.1 ") == 3


def test_connection_close_is_honoured_beside_an_upgrade(gateway: Reached) -> None:
    for words in (b"Upgrade, close", b"close, upgrade"):
        more = b"Upgrade: websocket\r\nConnection: %s\r\n" % words
        assert (
            talk(gateway.url, b"GET /healthz HTTP/1.1\r\nHost: x\r\n%s\r\n" % more).count(
                b" 200 OK"
            )
            == 1
        )


def test_tunnels_are_rejected(gateway: Reached) -> None:
    head = b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n%s\r\nhello" % UPGRADE
    assert talk(gateway.url, head).startswith(b"HTTP/1.1 400 ")


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n%s0\r\n" % CHUNKED, b"a: %s\r\n" % (b"b" * 999)),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n%s1;" % CHUNKED, b"x" * 1000),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n" * 500),
    ],
    ids=["trailers", "extensions", "empty lines"],
)
def test_endless_input_outside_a_body_is_cut_off(
    gateway: Reached, head: bytes, line: bytes
) -> None:
    address, sent = httpx.URL(gateway.url), 0
    with socket.create_connection((address.host, address.port or 80), timeout=60) as connection:
        connection.sendall(head)
        with suppress(ConnectionError):
            # Without a limit the server would read all of it.
            while sent < 50 * 2**20:
                sent += connection.send(line * 100)
    assert sent < 50 * 2**20


def test_trailers_are_ignored(gateway: Reached) -> None:
    key = gateway.keys["acme"].encode()
    head = b"GET /v1/queues HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    late = b"0\r\nAuthorization: Bearer %s\r\n\r\n" % key
    assert talk(gateway.url, head + CHUNKED + late).startswith(b"HTTP/1.1 401 ")


def test_an_answered_request_without_an_end_is_closed(
    served: Serve, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedProtocol, "rest_s", 0.3)
    app = create_app(GatewaySettings.load(redis_url=redis_url))
    with served(app) as url:
        head = b"GET /healthz HTTP/1.1\r\nHost: x\r\n%s1\r\nx\r\n" % CHUNKED
        assert talk(url, head).count(b" 200 OK") == 1


def test_an_answered_request_that_ends_keeps_its_connection(
    served: Serve, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedProtocol, "rest_s", 0.3)
    app = create_app(GatewaySettings.load(redis_url=redis_url))
    with served(app) as url:
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port or 80), timeout=60) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + CHUNKED)
            answer = b""
            while not answer.endswith(b'{"status":"ok"}'):
                answer += connection.recv(65536) or pytest.fail(f"{answer!r} is incomplete")
            assert b"200 OK" in answer
            connection.sendall(b"1\r\nx\r\n0\r\n\r\n")
            time.sleep(0.6)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in connection.recv(65536)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nhost: a\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 2\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n", 400),
        (b"GET /healthz HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400),
        (b"GET /healthz HTTP/1.0\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nHost:\r\nConnection: close\r\n", 200),
    ],
)
def test_a_request_needs_one_host(gateway: Reached, head: bytes, status: int) -> None:
    answer = talk(gateway.url, head + b"\r\n{}")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (b"needs one Host header" in answer) == (status == 400)


def test_health_is_answered_above_the_limit_of_connections(
    served: Serve, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.gateway.server.MAX_CONNECTIONS", 3)
    app = create_app(GatewaySettings.load(redis_url=redis_url))
    with served(app) as url, ExitStack() as stack:
        address = httpx.URL(url)
        for _ in range(3):
            idle = socket.create_connection((address.host, address.port or 80), timeout=60)
            stack.enter_context(idle)
        for path in ("/healthz", "/readyz", "/readyz?verbose"):
            assert httpx.get(url + path).status_code == 200, path
        for path in ("/v1/queues", "/metrics", "/healthz/x", "/healthz%2f"):
            assert httpx.get(url + path).status_code == 503, path
