"""Who is let in, and how often, by the gateway as it runs."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis

from producer.api_keys import ApiKeys, id_of
from producer.gateway.access import Caller, is_guarded
from producer.gateway.keyring import WRONG_KEYS, Keyring, Recent
from producer.gateway.problems import Problem
from producer.keys import Keys
from producer.threads import Threads

WRONG = f"blip_{'0' * 12}_{'0' * 48}"
#: A path that needs a key and touches Redis.
GUARDED = "/v1/queues"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def wait_for(answer: Callable[[], httpx.Response], status: int) -> httpx.Response:
    """The first answer of this status; whatever takes for ever is ended by pytest's time limit."""
    while (found := answer()).status_code != status:
        time.sleep(0.1)
    return found


def looks_at_keys(connection: redis.Redis) -> int:
    """How often Redis was asked for a field of a hash: keys are such."""
    stats: Any = connection.info("commandstats")
    return int(stats.get("cmdstat_hget", {}).get("calls", 0))


@pytest.mark.parametrize("path", ["/v1", "/v1/", GUARDED, "/v1/jobs/x", "/v1/nothing", "/v1/%00"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"])
def test_nothing_below_v1_is_answered_without_a_key(gateway: Any, method: str, path: str) -> None:
    answer = gateway.client(None).request(method, path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Basic YTpi", WRONG, "Token " + WRONG, "Bearer\t" + WRONG, "Bearer,"],
)
def test_a_malformed_header_is_told_what_is_needed(gateway: Any, header: str) -> None:
    answer = gateway.client(None).get(GUARDED, headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer" in answer.json()["detail"]


def test_two_keys_in_one_request_are_none(gateway: Any) -> None:
    headers = [("Authorization", f"Bearer {gateway.keys[name]}") for name in ("acme", "other")]
    assert gateway.client(None).get(GUARDED, headers=headers).status_code == 401


@pytest.mark.parametrize("key", [WRONG, "sk-123", "blip_x_y", "é", "a" * 5000, "b b"])
def test_a_wrong_key_is_told_that_it_is_wrong(gateway: Any, key: str) -> None:
    raw = f"Bearer {key}".encode()
    answer = gateway.client(None).get(GUARDED, headers={b"Authorization": raw})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert answer.json()["code"] == "unauthorized"
    assert key not in answer.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_the_scheme_may_be_written_in_any_case(gateway: Any, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {gateway.keys['acme']}"}
    assert gateway.client(None).get(GUARDED, headers=headers).status_code == 200


def test_who_has_no_key_is_told_before_the_body_is_sent(gateway: Any) -> None:
    url = httpx.URL(gateway.url)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


def test_names_do_not_see_each_others_jobs(gateway: Any) -> None:
    acme, other = gateway.client("acme"), gateway.client("other")
    asked = {"task": "caption", "image": "https://images.example.com/cat.jpg"}
    assert acme.put("/v1/jobs/secret-plan", json=asked).status_code == 202
    assert acme.get("/v1/jobs/secret-plan").json()["status"] == "queued"
    for method in ("GET", "DELETE"):
        for path in ("secret-plan", "acme.job.secret-plan", "..%2Facme.job.secret-plan"):
            assert other.request(method, f"/v1/jobs/{path}").status_code in (404, 422)
    assert acme.get("/v1/jobs/secret-plan").json()["status"] == "queued"
    # The same id is free for others, and stays theirs.
    theirs = {**asked, "image": "https://images.example.com/dog.jpg"}
    assert other.put("/v1/jobs/secret-plan", json=theirs).status_code == 202


def test_all_keys_of_a_name_see_the_same_jobs_and_a_new_one_does_at_once(
    gateway: Any, connection: redis.Redis
) -> None:
    key = ApiKeys(connection).create("acme")
    asked = {"task": "caption", "image": "https://images.example.com/cat.jpg"}
    assert gateway.client().put("/v1/jobs/shared-by-keys", json=asked).status_code == 202
    answer = gateway.client(None).get("/v1/jobs/shared-by-keys", headers=bearer(key))
    assert answer.status_code == 200


def test_a_revoked_key_is_soon_let_in_no_more_and_the_others_are(
    gateway: Any, connection: redis.Redis
) -> None:
    keys = ApiKeys(connection)
    old, new = keys.create("acme"), keys.create("acme")
    client = gateway.client(None)
    assert client.get(GUARDED, headers=bearer(old)).status_code == 200
    assert keys.revoke(id_of(old) or "")
    wait_for(lambda: client.get(GUARDED, headers=bearer(old)), 401)
    assert client.get(GUARDED, headers=bearer(new)).status_code == 200


def test_a_key_costs_redis_one_look_for_many_requests(
    gateway: Any, connection: redis.Redis
) -> None:
    key = ApiKeys(connection).create("acme")
    client, before = gateway.client(None), looks_at_keys(connection)
    for _ in range(30):
        assert client.get(GUARDED, headers=bearer(key)).status_code == 200
    # One more for each 5 seconds that this takes on a busy machine.
    assert looks_at_keys(connection) - before < 15


def test_guessing_is_stopped_and_does_not_lock_out_who_has_a_key(
    start_gateway: Any, connection: redis.Redis
) -> None:
    own = start_gateway()
    client, mine = own.client(None), own.client("acme")
    assert mine.get(GUARDED).status_code == 200
    before = looks_at_keys(connection)
    guesses = [f"blip_{number:012x}_{'0' * 48}" for number in range(WRONG_KEYS * 2)]
    answers = [client.get(GUARDED, headers=bearer(guess)) for guess in guesses]
    assert [answer.status_code for answer in answers[:WRONG_KEYS]] == [401] * WRONG_KEYS
    assert {answer.status_code for answer in answers[WRONG_KEYS:]} == {429}
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert looks_at_keys(connection) - before <= WRONG_KEYS + 2
    # Also once its own key has to be looked up again.
    until = time.monotonic() + 6
    while time.monotonic() < until:
        assert mine.get(GUARDED).status_code == 200
        time.sleep(0.2)


def test_the_same_wrong_key_is_looked_up_once(gateway: Any, connection: redis.Redis) -> None:
    client, before = gateway.client(None), looks_at_keys(connection)
    for _ in range(20):
        client.get(GUARDED, headers=bearer(f"blip_{'a' * 12}_{'1' * 48}"))
    assert looks_at_keys(connection) - before < 10


def test_what_is_remembered_is_bounded() -> None:
    recent: Recent[int] = Recent(3)
    for number in range(5):
        recent.put(str(number), number)
        recent.get("0")
    assert len(recent) == 3
    assert [recent.get(key) for key in "01234"] == [0, None, None, 3, 4]


@pytest.mark.parametrize(
    ("one", "two", "together"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("not an address", "another", False),
    ],
)
def test_guesses_are_counted_by_who_makes_them(
    connection: redis.Redis, one: str, two: str, together: bool
) -> None:
    async def guess() -> list[str]:
        threads = Threads()
        keyring = Keyring(ApiKeys(connection), threads, "redis://x")
        codes = []
        for address in [one] * WRONG_KEYS + [two]:
            try:
                await keyring.name_of(f"blip_{len(codes):012x}_{'0' * 48}", address)
            except Problem as problem:
                codes.append(problem.code)
        await threads.close(then=lambda: None)
        return codes

    last = "rate_limited" if together else "unauthorized"
    assert asyncio.run(guess()) == ["unauthorized"] * WRONG_KEYS + [last]


def test_a_rate_is_kept_to_and_says_when_to_come_again(start_gateway: Any) -> None:
    client = start_gateway(BLIPLINE_GATEWAY_RATE="3").client()
    answers = [client.get(GUARDED) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"minute";q=3;w=60'
    assert answers[0].headers["RateLimit"].startswith('"minute";r=2;t=')
    for answer in answers[3:]:
        assert answer.json()["code"] == "rate_limited"
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["RateLimit"].startswith('"minute";r=0;t=')


def test_a_rate_is_counted_over_all_gateways(start_gateway: Any) -> None:
    one, two = (start_gateway(BLIPLINE_GATEWAY_RATE="4").client() for _ in range(2))
    seen = [client.get(GUARDED).status_code for client in (one, two, one, two, one, two)]
    assert seen == [200, 200, 200, 200, 429, 429]


def test_each_key_has_a_rate_of_its_own_and_health_has_none(
    start_gateway: Any, connection: redis.Redis
) -> None:
    own = start_gateway(BLIPLINE_GATEWAY_RATE="1")
    second = ApiKeys(connection).create("acme")
    assert own.client("acme").get(GUARDED).status_code == 200
    assert own.client("acme").get(GUARDED).status_code == 429
    assert own.client("other").get(GUARDED).status_code == 200
    assert own.client(None).get(GUARDED, headers=bearer(second)).status_code == 200
    assert {own.client(None).get("/healthz").status_code for _ in range(5)} == {200}


def test_requests_of_one_moment_are_counted_one_by_one(start_gateway: Any) -> None:
    own = start_gateway(BLIPLINE_GATEWAY_RATE="10")

    async def many() -> list[int]:
        async with own.async_client() as client:
            answers = await asyncio.gather(*(client.get(GUARDED) for _ in range(40)))
        return sorted(answer.status_code for answer in answers)

    assert asyncio.run(many()) == [200] * 10 + [429] * 30


def test_counters_have_the_prefix_of_the_deployment(
    start_gateway: Any, connection: redis.Redis
) -> None:
    key = ApiKeys(connection, Keys("ours:")).create("acme")
    before = set(connection.scan_iter())
    own = start_gateway(BLIPLINE_GATEWAY_RATE="5", BLIPLINE_KEY_PREFIX="ours:")
    assert own.client(None).get(GUARDED, headers=bearer(key)).status_code == 200
    assert own.client("acme").get(GUARDED).status_code == 401
    new = set(connection.scan_iter()) - before
    assert any(b"rates" in name for name in new)
    assert all(name.startswith(b"ours:") for name in new)
    assert all(0 < int(connection.ttl(name)) <= 120 for name in new if b"rates" in name)


@pytest.mark.parametrize("name", ["a", "acme", "a-b", "0" * 32])
def test_ids_inside_begin_with_the_name_and_fit(name: str) -> None:
    caller, outer = Caller(name, ""), "x.y-z_" + "0" * 58
    assert caller.job(outer) == f"{name}.job.{outer}"
    assert caller.outer(caller.batch(outer)) == outer
    assert len(caller.batch(outer)) <= 128


@pytest.mark.parametrize("path", ["/", "/healthz", "/v10/x", "/ui/v1", "/openapi.json"])
def test_the_rest_needs_no_key(path: str) -> None:
    assert not is_guarded(path)
