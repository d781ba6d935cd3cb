"""Heads of requests: how long they may be, and may take."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from producer.gateway.app import create_app
from producer.gateway.protocol import HeadLimits
from producer.gateway.settings import GatewaySettings

from .conftest import Reached, Serve
from .raw import talk


def test_a_head_without_end_is_cut_off(gateway: Reached) -> None:
    line = b"X-Padding: " + b"x" * 1000 + b"\r\n"
    answer = talk(gateway.url, b"GET /healthz HTTP/1.1\r\nHost: x\r\n", *[line] * 100_000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
    assert gateway.client().get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "said", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half a head"]
)
def test_who_never_gets_to_the_point_is_cut_off(
    served: Serve, redis_url: str, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeadLimits, "head_s", 0.3)
    app = create_app(GatewaySettings(redis_url=redis_url))
    with served(app) as url:
        assert talk(url, said) == b""
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_a_connection_may_be_used_again_after_a_pause(
    served: Serve, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeadLimits, "head_s", 0.3)
    app = create_app(GatewaySettings(redis_url=redis_url))
    with served(app) as url, httpx.Client(base_url=url) as client:
        for _ in range(2):
            assert client.get("/healthz").status_code == 200
            (before,) = client._transport._pool.connections  # type: ignore[attr-defined]
            time.sleep(0.6)
        assert not before.is_closed()


def test_who_takes_nothing_of_an_answer_is_cut_off(
    served: Serve, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeadLimits, "send_s", 0.3)
    app = create_app(GatewaySettings(redis_url=redis_url))

    async def endless(_: Request) -> StreamingResponse:
        async def zeros() -> AsyncIterator[bytes]:
            while True:
                yield bytes(1 << 16)

        return StreamingResponse(zeros())

    app.router.routes.append(Route("/endless", endless))
    with served(app) as url:
        where = httpx.URL(url)
        with socket.create_connection((where.host, where.port or 80)) as connection:
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            reset = select.poll()
            # That alone is told without being asked for.
            reset.register(connection, 0)
            assert reset.poll(30_000)


@pytest.mark.parametrize(
    "said", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n"]
)
def test_what_is_not_http_is_refused_and_harms_nobody(gateway: Reached, said: bytes) -> None:
    assert talk(gateway.url, said).startswith(b"HTTP/1.1 400 ")
    assert gateway.client().get("/healthz").status_code == 200
