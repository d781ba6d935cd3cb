"""Limits of the concurrent requests of a name."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import httpx
import pytest

from producer.gateway.access.concurrency import ConcurrencyLimiter
from producer.gateway.http.problems import Problem

from .conftest import Run, Started
from .samples import CAPTION, JSONL, body_of

LIMIT: Final = 3


def test_a_name_has_a_limited_number_of_requests_in_progress() -> None:
    limiter = ConcurrencyLimiter(2)
    with limiter.request("acme"), limiter.request("globex"):
        with limiter.request("acme"), pytest.raises(Problem, match="acme has 2 requests"):
            limiter.request("acme").__enter__()
        with limiter.request("acme"):
            pass
    unlimited = ConcurrencyLimiter(0)
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(unlimited.request("acme"))


@contextmanager
def event_stream(gateway: Started) -> Iterator[None]:
    with gateway.client().stream("GET", "/v1/batches/open/events") as answer:
        assert answer.status_code == 200
        yield


@contextmanager
def result_stream(gateway: Started) -> Iterator[None]:
    with gateway.client().stream("GET", "/v1/batches/open/results?wait=true") as answer:
        assert answer.status_code == 200
        yield


@contextmanager
def raw_request(gateway: Started, head: str) -> Iterator[None]:
    """Begin a request, and wait until the gateway has it."""
    address = httpx.URL(gateway.url)
    with socket.create_connection((address.host, address.port or 80), timeout=60) as connection:
        key = gateway.headers("acme")["Authorization"]
        head = f"{head} HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\nExpect: 100-continue\r\n"
        connection.sendall(
            f"{head}Content-Type: application/json\r\nContent-Length: 99\r\n\r\n".encode()
        )
        # The gateway asks for the body when it reads it.
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        yield


@contextmanager
def slow_job(gateway: Started) -> Iterator[None]:
    with raw_request(gateway, "POST /v1/jobs"):
        yield


@pytest.mark.parametrize("occupy", [event_stream, result_stream, slow_job])
def test_streams_and_slow_bodies_of_one_name_leave_room_for_others(
    run_gateway: Run, occupy: type
) -> None:
    gateway = run_gateway(BLIPLINE_GATEWAY_MAX_CONCURRENT=str(LIMIT))
    http = gateway.client()
    http.post("/v1/batches", params={"id": "open"}, content=body_of(2), headers=JSONL)
    with ExitStack() as stack:
        for _ in range(LIMIT):
            stack.enter_context(occupy(gateway))
        answer = http.get("/v1/queues")
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert "BLIPLINE_GATEWAY_MAX_CONCURRENT" in answer.json()["detail"]
        assert int(answer.headers["Retry-After"]) > 0
        assert gateway.client("other").post("/v1/jobs", json=CAPTION).status_code == 202
        assert gateway.client(None).get("/healthz").status_code == 200
    while http.get("/v1/queues").status_code != 200:
        pass
