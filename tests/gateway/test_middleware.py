"""What every answer has, whatever it is, and what the log says of it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse

from producer.errors import ConnectionFailed
from producer.gateway.app import create_app
from producer.gateway.logs import JsonFormatter
from producer.gateway.middleware import SECURITY_HEADERS
from producer.gateway.settings import GatewaySettings

from .conftest import Reached, Serve, Start
from .samples import URL

JSON = {"Content-Type": "application/json"}

#: Requests whose answers are as different as they get: method, path, more, status.
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
    ("GET", "/docs", {}, 404),
    ("GET", "/redoc", {}, 404),
    ("DELETE", "/healthz", {}, 405),
    ("OPTIONS", "/healthz", {}, 405),
    ("GET", "/%ff%00", {}, 404),
]


METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
#: The paths of all routes.
TEMPLATES = sorted(
    {getattr(route, "path", "") for route in create_app(GatewaySettings()).router.routes}
)


def check(answer: httpx.Response) -> None:
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.get_list(name) == [value], name
    assert answer.headers["X-Request-Id"]
    assert "Server" not in answer.headers
    if answer.is_error:
        assert answer.headers["Content-Type"] == "application/problem+json"
    if answer.is_error and answer.request.method != "HEAD":
        told = answer.json()
        assert told["status"] == answer.status_code
        assert told["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(("method", "path", "more", "status"), REQUESTS)
def test_every_answer_has_all_headers(
    gateway: Reached, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    answer = gateway.client().request(method, path, **more)
    assert answer.status_code == status
    check(answer)


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_may_be_done_is_said_where_something_else_was_tried(
    gateway: Reached, template: str
) -> None:
    client, path = gateway.client(), template.format(id="there-is-none")
    allowed = client.patch(path).headers["Allow"].split(", ")
    tried = {method for method in METHODS if client.request(method, path).status_code != 405}
    assert tried == set(allowed)


@pytest.mark.parametrize("given", ["abc", "A.b-c_9", "0" * 64])
def test_a_request_id_of_the_callers_own_is_kept(gateway: Reached, given: str) -> None:
    answer = gateway.client().get("/nothing", headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"] == given == answer.json()["request_id"]


@pytest.mark.parametrize("given", ["", "a b", "0" * 65, 'a"b', "<x>", "a\tb", "é".encode()])
def test_one_that_could_do_harm_in_a_log_is_replaced(gateway: Reached, given: Any) -> None:
    raw = given if isinstance(given, bytes) else given.encode()
    answer = gateway.client().get("/nothing", headers={b"X-Request-Id": raw})
    assert len(answer.headers["X-Request-Id"]) == 36


# From here on within this process, with routes of the test's own.


async def crash() -> None:
    raise KeyError("hunter2")


async def lose_redis() -> None:
    raise ConnectionFailed("Redis at redis://:***@10.0.0.7:6379/0: refused")


async def framed() -> HTMLResponse:
    return HTMLResponse("<p>", headers={"Content-Security-Policy": "default-src 'self'"})


async def break_off() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        yield "one\n"
        raise KeyError("hunter2")

    return StreamingResponse(lines(), media_type="text/plain")


async def broken_layer(scope: Any, receive: Any, send: Any) -> None:
    raise KeyError("hunter2")


def an_app(redis_url: str, **settings: Any) -> FastAPI:
    """An app with routes that behave badly."""
    app = create_app(GatewaySettings(redis_url=redis_url, **settings))
    for endpoint in (crash, lose_redis, framed, break_off):
        app.add_api_route(f"/{endpoint.__name__}/{{name}}", endpoint, response_model=None)
    app.mount("/broken_layer", broken_layer)
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
    """What it answers, within this process."""
    app = an_app(redis_url, **settings)

    async def get() -> httpx.Response:
        async with running(app) as client:
            return await client.get(path, headers=headers)

    return asyncio.run(get())


@pytest.mark.parametrize("path", ["/crash/x", "/broken_layer/x"])
def test_a_bug_is_a_problem_with_all_headers_and_leaks_nothing(redis_url: str, path: str) -> None:
    answer = ask(redis_url, path)
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "hunter2" not in answer.text
    check(answer)


def test_redis_that_is_away_is_a_problem_with_all_headers(redis_url: str) -> None:
    answer = ask(redis_url, "/lose_redis/x")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "10.0.0.7" not in answer.text
    check(answer)


def test_a_page_may_have_a_policy_of_its_own(redis_url: str) -> None:
    answer = ask(redis_url, "/framed/x")
    assert answer.headers.get_list("Content-Security-Policy") == ["default-src 'self'"]
    assert answer.headers["X-Frame-Options"] == "DENY"


def test_an_answer_that_has_begun_breaks_off_and_no_other_follows(
    redis_url: str, served: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with served(an_app(redis_url)) as url, httpx.stream("GET", f"{url}/break_off/x") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()
    assert "hunter2" in caplog.text
    # The server met with no error of its own.
    assert "Exception in ASGI" not in caplog.text


def test_the_log_has_the_route_and_not_what_was_asked(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "blipline.gateway")
    ask(redis_url, "/framed/swordfish?token=swordfish", {"X-Request-Id": "mine"})
    (record,) = [one for one in caplog.records if one.name == "blipline.gateway.access"]
    line = json.loads(JsonFormatter().format(record))
    assert "swordfish" not in str(line)
    assert line["route"] == "/framed/{name}"
    assert line["message"] == "GET /framed/{name} 200"
    assert (line["method"], line["status"], line["level"]) == ("GET", 200, "info")
    assert line["ms"] >= 0


def test_the_log_says_whose_request_it_was_and_under_which_id(start_gateway: Start) -> None:
    own = start_gateway()
    own.client().get("/v1/jobs/swordfish?token=swordfish", headers={"X-Request-Id": "mine"})
    # It is written when the answer has been sent.
    while not (lines := [one for one in own.output().splitlines() if "mine" in one]):
        time.sleep(0.02)
    (line,) = map(json.loads, lines)
    assert (line["route"], line["status"]) == ("/v1/jobs/{id}", 404)
    assert (line["name"], line["request_id"]) == ("acme", "mine")
    assert "swordfish" not in own.output()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"blip_0123456789ab_{'f' * 48}", "blip_0123456789ab_***"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw==", "whsec_***"),
        ("redis://:p@ss:w@host/0", "redis://:***@host/0"),
        ("https://user:p/w@host/x", "https://user:***@host/x"),
        ("redis://password@host", "redis://***@host"),
        ('redis://u:p"w@host/0', "redis://u:***@host/0"),
        ("sentinel://a,b/0?sentinel_password=pw", "sentinel://a,b/0?sentinel_password=***"),
        ("no secret: https://host/x", "no secret: https://host/x"),
    ],
)
def test_a_secret_that_gets_into_a_message_is_not_logged(
    text: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("blipline.gateway").warning("it is %s", text)
    assert json.loads(JsonFormatter().format(caplog.records[-1]))["message"] == f"it is {shown}"


def test_other_origins_may_not_call_unless_they_are_named(redis_url: str) -> None:
    mine = {"Origin": "https://app.example"}
    assert "Access-Control-Allow-Origin" not in ask(redis_url, "/healthz", mine).headers
    named = {"gateway_cors_origins": "https://app.example"}
    answer = ask(redis_url, "/healthz", mine, **named)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    other = ask(redis_url, "/healthz", {"Origin": "https://evil.example"}, **named)
    assert "Access-Control-Allow-Origin" not in other.headers


def test_a_page_that_may_call_can_read_errors_too(redis_url: str) -> None:
    named = {"gateway_cors_origins": "https://app.example"}
    answer = ask(redis_url, "/v1/queues", {"Origin": "https://app.example"}, **named)
    assert answer.status_code == 401
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]
    check(answer)


@pytest.mark.parametrize("origin", ["https://app.example", "https://evil.example"])
def test_a_preflight_needs_no_key_and_has_all_headers(start_gateway: Start, origin: str) -> None:
    own = start_gateway(BLIPLINE_GATEWAY_CORS_ORIGINS="https://app.example")
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = own.client(None).options("/v1/jobs", headers=asked)
    allowed = origin == "https://app.example"
    assert answer.status_code == (200 if allowed else 400)
    assert ("Access-Control-Allow-Origin" in answer.headers) is allowed
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Request-Id"]
