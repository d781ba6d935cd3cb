"""Which keys are let in, how often Redis is asked for one, and who guesses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis

from producer.api_keys import ApiKeys, id_of
from producer.gateway.calls import Calls
from producer.gateway.keyring import WRONG_KEYS, Keyring
from producer.gateway.problems import Problem
from producer.threads import Threads

from .conftest import Reached, Start
from .samples import bearer

#: A path that needs a key and touches Redis.
GUARDED = "/v1/queues"


def wait_for(answer: Callable[[], httpx.Response], status: int) -> httpx.Response:
    """The first answer of this status; whatever takes for ever is ended by pytest's time limit."""
    while (found := answer()).status_code != status:
        time.sleep(0.1)
    return found


def looks_at_keys(connection: redis.Redis) -> int:
    """How often Redis was asked for a field of a hash: keys are such."""
    stats: Any = connection.info("commandstats")
    return int(stats.get("cmdstat_hget", {}).get("calls", 0))


def test_all_keys_of_a_name_see_the_same_jobs_and_a_new_one_does_at_once(
    gateway: Reached, connection: redis.Redis
) -> None:
    key = ApiKeys(connection).create("acme")
    asked = {"task": "caption", "image": "https://images.example.com/cat.jpg"}
    assert gateway.client().put("/v1/jobs/shared-by-keys", json=asked).status_code == 202
    answer = gateway.client(None).get("/v1/jobs/shared-by-keys", headers=bearer(key))
    assert answer.status_code == 200


def test_a_revoked_key_is_soon_let_in_no_more_and_the_others_are(
    gateway: Reached, connection: redis.Redis
) -> None:
    keys = ApiKeys(connection)
    old, new = keys.create("acme"), keys.create("acme")
    client = gateway.client(None)
    assert client.get(GUARDED, headers=bearer(old)).status_code == 200
    assert keys.revoke(id_of(old) or "")
    wait_for(lambda: client.get(GUARDED, headers=bearer(old)), 401)
    assert client.get(GUARDED, headers=bearer(new)).status_code == 200


def test_a_key_costs_redis_one_look_for_many_requests(
    gateway: Reached, connection: redis.Redis
) -> None:
    key = ApiKeys(connection).create("acme")
    client, before = gateway.client(None), looks_at_keys(connection)
    for _ in range(30):
        assert client.get(GUARDED, headers=bearer(key)).status_code == 200
    # One more for each 5 seconds that this takes on a busy machine.
    assert looks_at_keys(connection) - before < 15


def test_guessing_is_stopped_and_does_not_lock_out_who_has_a_key(
    start_gateway: Start, connection: redis.Redis
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


def test_the_same_wrong_key_is_looked_up_once(gateway: Reached, connection: redis.Redis) -> None:
    client, before = gateway.client(None), looks_at_keys(connection)
    for _ in range(20):
        client.get(GUARDED, headers=bearer(f"blip_{'a' * 12}_{'1' * 48}"))
    assert looks_at_keys(connection) - before < 10


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
        keyring = Keyring(ApiKeys(connection), Calls(threads, "redis://x"))
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
