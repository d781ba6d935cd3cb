"""Headers, access log and size limits of every request, and CORS."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse

from producer.errors import ConnectionFailed
from producer.gateway.access.api_keys import key_id_of
from producer.gateway.app import create_app
from producer.gateway.http.middleware import SECURITY_HEADERS
from producer.gateway.settings import GatewaySettings
from producer.observability.logs import JsonFormatter
from producer.observability.redaction import Redactor

from .conftest import Reached, Run, Serve, Start
from .raw_http import talk
from .samples import URL

JSON = {"Content-Type": "application/json"}

#: Requests with very different responses: method, path, options, status.
REQUESTS: list[tuple[str, str, dict[str, Any], int]] = [
    ("GET", "/healthz", {}, 200),
    ("HEAD", "/healthz", {}, 200),
    ("GET", "/readyz", {}, 200),
    ("GET", "/metrics", {}, 200),
    ("GET", "/openapi.json", {}, 200),
    ("GET", "/v1/queues", {}, 200),
    ("POST", "/v1/jobs", {"json": {"task": "caption", "image": URL}}, 202),
    ("POST", "/v1/jobs", {"content": b"{", "headers": JSON}, 400),
    ("POST", "/v1/jobs", {"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
    ("GET", "/v1/jobs/there-is-none", {}, 404),
    ("GET", "/v1/queues", {"headers": {"Authorization": "Bearer x"}}, 401),
    ("GET", "/nothing", {}, 404),
    ("HEAD", "/nothing", {}, 404),
    ("GET", "/redoc", {}, 404),
    ("GET", "/redoc", {}, 404),
    ("DELETE", "/healthz", {}, 405),
    ("OPTIONS", "/healthz", {}, 405),
    ("GET", "/%ff%00", {}, 404),
]


METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
#: The paths of all routes.
TEMPLATES = sorted(
    {getattr(route, "path", "") for route in create_app(GatewaySettings.load()).router.routes}
)


def check(answer: httpx.Response) -> None:
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.get_list(name) == [value], name
    assert answer.headers["X-Request-Id"]
    assert "Server" not in answer.headers
    if answer.is_error:
        assert answer.headers["Content-Type"] == "application/problem+json"
    if answer.is_error and answer.request.method != "HEAD":
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(("method", "path", "more", "status"), REQUESTS)
def test_every_response_has_all_headers(
    gateway: Reached, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    answer = gateway.client().request(method, path, **more)
    assert answer.status_code == status
    check(answer)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_405_lists_the_allowed_methods(gateway: Reached, template: str) -> None:
    client, path = gateway.client(), template.format(id="there-is-none")
    allowed = client.patch(path).headers["Allow"].split(", ")
    tried = {method for method in METHODS if client.request(method, path).status_code != 405}
    assert tried == set(allowed)


@pytest.mark.parametrize("given", ["abc", "A.b-c_9", "0" * 64])
def test_a_request_id_of_the_client_is_adopted(gateway: Reached, given: str) -> None:
    answer = gateway.client().get("/nothing", headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"] == given == answer.json()["request_id"]


TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("trace_id", "adopted"), [(TRACE, True), ("0" * 32, False), (TRACE.upper(), False)]
)
def test_a_trace_id_of_the_client_is_adopted(
    gateway: Reached, trace_id: str, adopted: bool
) -> None:
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    answer = gateway.client().get("/nothing", headers=headers)
    assert (answer.headers["X-Request-Id"] == trace_id) is adopted
    headers["X-Request-Id"] = "mine"
    assert gateway.client().get("/nothing", headers=headers).headers["X-Request-Id"] == "mine"


@pytest.mark.parametrize("given", ["", "a b", "0" * 65, 'a"b', "<x>", "a\tb", "é".encode()])
def test_an_unsafe_request_id_is_replaced(gateway: Reached, given: Any) -> None:
    raw = given if isinstance(given, bytes) else given.encode()
    answer = gateway.client().get("/nothing", headers={b"X-Request-Id": raw})
    assert len(answer.headers["X-Request-Id"]) == 36


# In this process, with routes of the test's own.


async def crash() -> None:
    raise KeyError("hunter2")


async def lose_redis() -> None:
    raise ConnectionFailed("Redis at redis://:***@10.0.0.7:6379/0: refused")


async def framed() -> HTMLResponse:
    return HTMLResponse("<p>", headers={"Content-Security-Policy": "default-src 'self'"})


async def fail_midway() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        yield "line\n"
        raise KeyError("hunter2")

    return StreamingResponse(lines(), media_type="text/plain")


async def faulty_mount(scope: Any, receive: Any, send: Any) -> None:
    raise KeyError("hunter2")


def faulty_app(redis_url: str, **settings: Any) -> FastAPI:
    """Return an app with faulty routes."""
    app = create_app(GatewaySettings.load(redis_url=redis_url, **settings))
    for endpoint in (crash, lose_redis, framed, fail_midway):
        app.add_api_route(f"/{endpoint.__name__}/{{name}}", endpoint, response_model=None)
    app.mount("/faulty_mount", faulty_mount)
    return app


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            yield client


def ask(
    redis_url: str, path: str, headers: dict[str, str] | None = None, **settings: Any
) -> httpx.Response:
    """Return the response of an app in this process."""
    app = faulty_app(redis_url, **settings)

    async def get() -> httpx.Response:
        async with running(app) as client:
            return await client.get(path, headers=headers)

    return asyncio.run(get())


@pytest.mark.parametrize("path", ["/crash/x", "/faulty_mount/x"])
def test_an_internal_error_has_all_headers_and_discloses_nothing(redis_url: str, path: str) -> None:
    answer = ask(redis_url, path)
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "hunter2" not in answer.text
    check(answer)


def test_an_unreachable_redis_is_a_problem_with_all_headers(redis_url: str) -> None:
    answer = ask(redis_url, "/lose_redis/x")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "10.0.0.7" not in answer.text
    check(answer)


def test_a_response_can_override_a_security_header(redis_url: str) -> None:
    answer = ask(redis_url, "/framed/x")
    assert answer.headers.get_list("Content-Security-Policy") == ["default-src 'self'"]
    assert answer.headers["X-Frame-Options"] == "DENY"


def test_a_started_response_is_aborted_by_an_error(
    redis_url: str, served: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        served(faulty_app(redis_url)) as url,
        httpx.stream("GET", f"{url}/fail_midway/x") as answer,
    ):
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()
    assert "hunter2" in caplog.text
    # The server logs no error of its own.
    assert "Exception in ASGI" not in caplog.text


def test_the_access_log_contains_the_path_and_no_query(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "blipline.gateway")
    ask(redis_url, "/framed/a%0Ab?token=swordfish", {"X-Request-Id": "mine"})
    (record,) = [record for record in caplog.records if record.name == "blipline.gateway.access"]
    line = json.loads(JsonFormatter("gateway", Redactor()).format(record))
    assert "swordfish" not in str(line)
    assert (line["route"], line["path"]) == ("/framed/{name}", "/framed/ab?…")
    assert line["message"] == "request"
    assert line["bytes"] == len("<p>")
    assert (line["method"], line["status"], line["level"]) == ("GET", 200, "info")
    assert line["ms"] >= 0


def test_the_access_log_contains_tenant_and_request_id(start_gateway: Start) -> None:
    own = start_gateway(BLIPLINE_LOG_FORMAT="json")
    own.client().get("/v1/jobs/mackerel?token=swordfish", headers={"X-Request-Id": "mine"})
    # The line is written after the response.
    while not (lines := [record for record in own.output().splitlines() if "mine" in record]):
        time.sleep(0.02)
    (line,) = map(json.loads, lines)
    assert (line["route"], line["status"]) == ("/v1/jobs/{id}", 404)
    assert line["path"] == "/v1/jobs/mackerel?…"
    assert (line["name"], line["request_id"]) == ("acme", "mine")
    assert (line["client"], line["key"]) == ("127.0.0.1", key_id_of(own.keys["acme"]))
    assert "swordfish" not in own.output()


def test_only_configured_origins_are_allowed(redis_url: str) -> None:
    origin = {"Origin": "https://app.example"}
    assert "Access-Control-Allow-Origin" not in ask(redis_url, "/healthz", origin).headers
    named = {"gateway_cors_origins": "https://app.example"}
    answer = ask(redis_url, "/healthz", origin, **named)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    foreign = ask(redis_url, "/healthz", {"Origin": "https://evil.example"}, **named)
    assert "Access-Control-Allow-Origin" not in foreign.headers


def test_an_allowed_origin_can_read_errors(redis_url: str) -> None:
    named = {"gateway_cors_origins": "https://app.example"}
    answer = ask(redis_url, "/v1/queues", {"Origin": "https://app.example"}, **named)
    assert answer.status_code == 401
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]
    check(answer)


@pytest.mark.parametrize("origin", ["https://app.example", "https://evil.example"])
def test_a_preflight_needs_no_key_and_has_all_headers(run_gateway: Run, origin: str) -> None:
    own = run_gateway(BLIPLINE_GATEWAY_CORS_ORIGINS="https://app.example")
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = own.client(None).options("/v1/jobs", headers=headers)
    allowed = origin == "https://app.example"
    assert answer.status_code == (200 if allowed else 400)
    assert ("Access-Control-Allow-Origin" in answer.headers) is allowed
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Request-Id"]


def test_a_declared_length_above_the_limit_is_rejected_at_once(run_gateway: Run) -> None:
    own = run_gateway(BLIPLINE_GATEWAY_MAX_IMAGE_MB="1", BLIPLINE_GATEWAY_MAX_BODY_MB="1")
    for path in ("/v1/jobs", "/v1/images", "/v1/batches"):
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {2**30}\r\n"
            f"Authorization: Bearer {own.keys['acme']}\r\n\r\n"
        )
        answer = talk(own.url, head.encode())
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'"body_too_large"' in answer


def test_a_chunked_body_is_rejected_once_it_exceeds_the_limit(run_gateway: Run) -> None:
    own = run_gateway(BLIPLINE_GATEWAY_MAX_IMAGE_MB="1")

    def body() -> Iterator[bytes]:
        yield b'{"task": "caption", "image": "'
        for _ in range(4):
            yield b"x" * 2**20

    answer = own.client().post(
        "/v1/jobs", content=body(), headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
