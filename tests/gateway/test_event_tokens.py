"""Tokens for browsers: each allows the events of one batch for a limited time."""

from __future__ import annotations

import json
import time

import httpx
import pytest
import redis

from producer.gateway.access.api_keys import ApiKey, ApiKeys, key_id_of
from producer.gateway.access.event_tokens import EventToken, is_signed
from producer.gateway.access.key_cache import MAX_NETWORK_LOOKUPS
from tests.conftest import Finish

from .conftest import Reached, Run

KEY = ApiKey("0123456789ab", "acme", 0.0, "a" * 64)
LINE = json.dumps({"image": "https://images.example.com/cat.jpg"})


def create(http: httpx.Client, batch: str, **query: int) -> dict[str, str]:
    """Submit a batch and return a token for its events."""
    assert http.post("/v1/batches", params={"id": batch}, content=LINE).status_code == 202
    answer = http.post(f"/v1/batches/{batch}/token", params=query)
    assert answer.status_code == 201, answer.text
    body: dict[str, str] = answer.json()
    return body


def test_a_token_reads_the_events_of_its_batch_alone(
    http: httpx.Client, gateway: Reached, finish: Finish
) -> None:
    body = create(http, "shown", ttl_s=60)
    http.post("/v1/batches", params={"id": "hidden"}, content=LINE)
    finish("acme.batch.shown:0", [{"text": "a cat"}])
    browser = gateway.client(None)
    events = browser.get(body["url"])
    assert events.status_code == 200
    assert "event: end" in events.text
    token = {"token": body["token"]}
    for method, path in (
        ("GET", "/v1/batches/hidden/events"),
        ("GET", "/v1/batches/shown"),
        ("GET", "/v1/batches/shown/results"),
        ("GET", "/v1/jobs"),
        ("DELETE", "/v1/batches/shown"),
        ("POST", "/v1/batches/shown/token"),
    ):
        assert browser.request(method, path, params=token).status_code == 401, path
    assert browser.post("/v1/batches/shown/events", params=token).status_code in (403, 405)


def test_a_token_expires(http: httpx.Client, gateway: Reached, finish: Finish) -> None:
    body = create(http, "short", ttl_s=1)
    finish("acme.batch.short:0", [{"text": "a cat"}])
    browser = gateway.client(None)
    while (answer := browser.get(body["url"])).status_code == 200:
        time.sleep(0.1)
    assert answer.status_code == 401
    assert "has expired" in answer.json()["detail"]
    assert int(body["expires_at"]) <= time.time()


def test_a_token_ends_with_its_key(
    gateway: Reached, connection: redis.Redis, finish: Finish
) -> None:
    keys = ApiKeys(connection)
    key = keys.create("acme")
    http = httpx.Client(base_url=gateway.url, headers={"Authorization": f"Bearer {key}"})
    browser = gateway.client(None)
    with http:
        body = create(http, "revoked")
        finish("acme.batch.revoked:0", [{"text": "a cat"}])
        assert browser.get(body["url"]).status_code == 200
        keys.revoke(key_id_of(key) or "")
        deadline = time.monotonic() + 60
        while browser.get(body["url"]).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_token_is_valid_after_many_guesses(
    run_gateway: Run, connection: redis.Redis, finish: Finish
) -> None:
    # A second gateway does not know the key of the token.
    body = create(run_gateway().client(), "guessed")
    finish("acme.batch.guessed:0", [{"text": "a cat"}])
    browser = run_gateway().client(None)
    for number in range(MAX_NETWORK_LOOKUPS + 1):
        guess = EventToken(f"{number:012x}", "guessed", int(time.time()) + 60).encode(KEY)
        answer = browser.get("/v1/batches/guessed/events", params={"token": guess})
        assert answer.status_code == 401
    assert browser.get(body["url"]).status_code == 200


@pytest.mark.parametrize("ttl_s", [0, -1, 86_401])
def test_an_invalid_time_is_a_422(http: httpx.Client, ttl_s: int) -> None:
    answer = http.post("/v1/batches/x/token", params={"ttl_s": ttl_s})
    assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid")


def test_a_batch_that_does_not_exist_has_no_token(http: httpx.Client) -> None:
    assert http.post("/v1/batches/none/token").status_code == 404


def test_changed_tokens_are_not_signed() -> None:
    token = EventToken(KEY.id, "photos", 1_795_000_000)
    text = token.encode(KEY)
    assert EventToken.decode(text) == token
    assert is_signed(text, KEY)
    forged = EventToken(KEY.id, "photos", 1_999_000_000).encode(KEY)
    payload, signature = forged.split(".")[0], text.split(".")[1]
    assert not is_signed(f"{payload}.{signature}", KEY)
    assert not is_signed(text, ApiKey(KEY.id, KEY.name, 0.0, "b" * 64))
    for damaged in (
        "",
        "blipt_",
        text[:-1],
        f"{text}0",
        text.replace(".", ""),
        "blipt_eA." + "0" * 64,
        "blipt_NQ." + "0" * 64,
    ):
        assert EventToken.decode(damaged) is None
        assert not is_signed(damaged, KEY)
