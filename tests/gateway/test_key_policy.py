"""Limits of API keys: scopes, tasks, expiry and rates."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import httpx
import pytest
import redis
from starlette.routing import Match, Route

from producer import hf_api, openai_api, replicate_api
from producer.gateway.access.api_keys import ApiKeys
from producer.gateway.access.auth import needs_api_key
from producer.gateway.access.key_policy import NO_LIMITS, SCOPES, KeyPolicy
from producer.gateway.access.permissions import check_page, scope_of
from producer.gateway.app import create_app
from producer.gateway.http.problems import Problem
from producer.gateway.settings import GatewaySettings
from tests.conftest import Finish

from .conftest import Reached
from .fake_worker import running_fake_worker
from .samples import bearer

ASK: Final = {"image": "https://images.example.com/cat.jpg", "question": "how many?"}
#: A request of each route that needs a key, and its scope.
REQUESTS: Final = [
    ("POST", "/v1/jobs", "submit"),
    ("PUT", "/v1/jobs/x", "submit"),
    ("POST", "/v1/caption", "submit"),
    ("POST", "/v1/ask", "submit"),
    ("POST", "/v1/chat", "submit"),
    ("POST", "/v1/match", "submit"),
    ("POST", "/v1/embed", "submit"),
    ("POST", "/v1/describe", "submit"),
    ("POST", "/v1/capfilt", "submit"),
    ("POST", "/v1/batches", "submit"),
    ("POST", "/v1/images", "submit"),
    ("POST", "/v1/webhooks/ping", "submit"),
    ("POST", "/openai/v1/chat/completions", "submit"),
    ("POST", "/openai/v1/embeddings", "submit"),
    ("POST", "/openai/v1/files", "submit"),
    ("POST", "/openai/v1/batches", "submit"),
    ("POST", "/hf", "submit"),
    ("POST", "/hf/x", "submit"),
    ("POST", "/replicate/v1/files", "submit"),
    ("POST", "/replicate/v1/predictions", "submit"),
    ("POST", "/replicate/v1/models/x/y/predictions", "submit"),
    ("GET", "/v1/jobs", "read"),
    ("GET", "/v1/jobs/x", "read"),
    ("HEAD", "/v1/jobs/x", "read"),
    ("GET", "/v1/jobs/x/events", "read"),
    ("GET", "/v1/batches", "read"),
    ("GET", "/v1/batches/x", "read"),
    ("HEAD", "/v1/batches/x", "read"),
    ("GET", "/v1/batches/x/results", "read"),
    ("GET", "/v1/batches/x/errors", "read"),
    ("GET", "/v1/batches/x/deliveries", "read"),
    ("GET", "/v1/batches/x/events", "read"),
    ("POST", "/v1/batches/x/token", "read"),
    ("GET", "/v1/queues", "read"),
    ("HEAD", "/v1/queues", "read"),
    ("GET", "/v1/webhooks/deliveries", "read"),
    ("GET", "/openai/v1/models", "read"),
    ("GET", "/openai/v1/models/x", "read"),
    ("GET", "/openai/v1/files", "read"),
    ("GET", "/openai/v1/files/x", "read"),
    ("GET", "/openai/v1/files/x/content", "read"),
    ("GET", "/openai/v1/batches", "read"),
    ("GET", "/openai/v1/batches/x", "read"),
    ("GET", "/hf/health", "read"),
    ("GET", "/hf/info", "read"),
    ("GET", "/replicate/v1/predictions/x", "read"),
    ("DELETE", "/v1/jobs/x", "manage"),
    ("DELETE", "/v1/batches/x", "manage"),
    ("POST", "/v1/batches/x/cancel", "manage"),
    ("POST", "/v1/batches/x/retry", "manage"),
    ("POST", "/v1/webhooks/deliveries/x/resend", "manage"),
    ("DELETE", "/openai/v1/files/x", "manage"),
    ("POST", "/openai/v1/batches/x/cancel", "manage"),
    ("POST", "/replicate/v1/predictions/x/cancel", "manage"),
]
#: Ids that are also the ends of paths of another scope.
PATH_ENDS: Final = ("token", "cancel", "retry", "resend", "jobs", "batches")
#: Creates a key of acme with a policy, and returns a client.
Connect = Callable[[KeyPolicy], httpx.Client]


@pytest.fixture
def connect(gateway: Reached, connection: redis.Redis) -> Connect:
    http = gateway.client(None)

    def connect(policy: KeyPolicy) -> httpx.Client:
        http.headers.update(bearer(ApiKeys(connection).create("acme", policy)))
        return http

    return connect


@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_allows_the_requests_of_its_scopes_alone(connect: Connect, scope: str) -> None:
    http = connect(KeyPolicy(scopes=[scope]))
    for method, path, needed in REQUESTS:
        answer = http.request(method, path)
        assert (answer.status_code == 403) == (needed != scope), (method, path, answer.text)
    refused = http.get("/v1/jobs") if scope == "manage" else http.delete("/v1/jobs/x")
    assert refused.json()["code"] == "forbidden"
    assert f"has the scopes {scope}, and the request needs" in refused.json()["detail"]


def test_every_route_that_needs_a_key_has_a_request() -> None:
    app = create_app(GatewaySettings.load())
    for mount in (openai_api.mount, hf_api.mount, replicate_api.mount):
        mount(app)
    routes = [route for route in app.routes if isinstance(route, Route)]
    for method, path, _ in REQUESTS:
        scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
        served = [route for route in routes if route.matches(scope)[0] is Match.FULL]
        assert served, (method, path)
        routes.remove(served[0])
    assert [route for route in routes if needs_api_key(route.path)] == []


@pytest.mark.parametrize("name", PATH_ENDS)
def test_the_scope_of_a_request_does_not_depend_on_the_id(name: str) -> None:
    for method, path, scope in REQUESTS:
        if "/x" in path:
            assert scope_of(method, path.replace("/x", f"/{name}", 1)) == scope, (method, path)


def test_refused_requests_count_towards_the_rate(connect: Connect) -> None:
    http = connect(KeyPolicy(scopes=["read"], rate=2))
    answers = [http.delete("/v1/jobs/x") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [403, 403, 429]


def test_a_key_allows_its_tasks_alone(connect: Connect) -> None:
    http = connect(KeyPolicy(tasks=["caption", "embed"]))
    assert http.post("/v1/jobs", json={"task": "embed", "text": "a cat"}).status_code == 202
    for path, body in (
        ("/v1/jobs", {"task": "vqa", **ASK}),
        ("/v1/ask", ASK),
        ("/replicate/v1/predictions", {"version": "ask", "input": ASK}),
    ):
        answer = http.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "caption, embed, not vqa" in answer.text


def test_lines_of_other_tasks_become_errors(
    connect: Connect, connection: redis.Redis, finish: Finish
) -> None:
    http = connect(KeyPolicy(tasks=["vqa"]))
    lines: list[dict[str, Any]] = [
        {"custom_id": "a", **ASK},
        {"custom_id": "b", "image": ASK["image"], "task": "caption"},
        # The worker refuses an unknown task.
        {"custom_id": "c", "image": ASK["image"], "task": "paint"},
    ]
    content = "\n".join(map(json.dumps, lines))
    answer = http.post("/v1/batches", params={"id": "mixed", "task": "vqa"}, content=content)
    assert answer.status_code == 202
    with running_fake_worker(connection, finish):
        text = http.get("/v1/batches/mixed/results", params={"wait": True}).text
    results = [json.loads(line) for line in text.splitlines() if line.strip()]
    assert [result["custom_id"] for result in results] == ["a", "b", "c"]
    assert results[0]["text"] == "a cat"
    assert "allows the tasks vqa, not caption" in results[1]["error"]["message"]


def test_a_key_expires(connect: Connect) -> None:
    http = connect(KeyPolicy(expires_at=time.time() + 2))
    assert http.get("/v1/jobs").status_code == 200
    while (answer := http.get("/v1/jobs")).status_code == 200:
        time.sleep(0.05)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert connect(KeyPolicy(expires_at=1.0)).get("/v1/jobs").status_code == 401


def test_a_key_has_a_rate_of_its_own(connect: Connect) -> None:
    # The gateway itself has no limit.
    http = connect(KeyPolicy(rate=3))
    answers = [http.get("/v1/jobs") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"minute";q=3;w=60'
    assert "3 requests per minute" in answers[-1].json()["detail"]
    assert "RateLimit" not in connect(NO_LIMITS).get("/v1/jobs").headers


def test_a_policy_is_stored_without_what_does_not_limit(connection: redis.Redis) -> None:
    keys = ApiKeys(connection)
    policies = (
        NO_LIMITS,
        KeyPolicy(("read",), ("caption",), time.time() + 60, 5, ("file:cats/",), 7, 9),
        KeyPolicy(image_prefixes=()),
    )
    for expected in policies:
        stored = keys.find(keys.create("acme", expected))
        assert stored is not None
        assert stored.policy == replace(expected, scopes=tuple(expected.scopes))
    # An earlier version would read every image that it does not know to be denied.
    assert policies[1].to_json()["private_images"] is False
    assert NO_LIMITS.to_json() == {}


@pytest.mark.parametrize(
    ("policy", "is_limited"),
    [
        (NO_LIMITS, False),
        (KeyPolicy(rate=1, expires_at=1.0, image_prefixes=()), False),
        (KeyPolicy(items_per_day=1), True),
        (KeyPolicy(mb_per_day=1), True),
        (KeyPolicy(scopes=("read",)), True),
        (KeyPolicy(tasks=("caption",)), True),
    ],
)
def test_a_limited_key_does_not_open_the_page(policy: KeyPolicy, is_limited: bool) -> None:
    if is_limited:
        with pytest.raises(Problem, match="the page needs one without"):
            check_page(policy)
    else:
        check_page(policy)
