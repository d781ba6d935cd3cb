"""Which keys are let in, how often Redis is asked for one, and who guesses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis

from producer.aio.thread_pools import ThreadPools
from producer.gateway.api_keys import ApiKeys, key_id_of
from producer.gateway.key_cache import MAX_NETWORK_LOOKUPS, KeyCache
from producer.gateway.problems import Problem
from producer.gateway.redis_calls import RedisCalls

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
    assert keys.revoke(key_id_of(old) or "")
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


def guesses(count: int) -> list[str]:
    return [f"blip_{number:012x}_{'0' * 48}" for number in range(count)]


def test_guessing_costs_redis_little_and_locks_nobody_out(
    start_gateway: Start, connection: redis.Redis
) -> None:
    own, many = start_gateway(), MAX_NETWORK_LOOKUPS * 4
    new = ApiKeys(connection).create("acme")

    async def guess() -> list[int]:
        async with own.async_client(None) as client:
            keys = [*guesses(many), own.keys["other"], new]
            answers = [client.get(GUARDED, headers=bearer(key)) for key in keys]
            return [answer.status_code for answer in await asyncio.gather(*answers)]

    before = looks_at_keys(connection)
    assert asyncio.run(guess()) == [401] * many + [200, 200]
    assert looks_at_keys(connection) - before <= MAX_NETWORK_LOOKUPS + 4


def test_one_wrong_key_may_be_tried_for_ever(start_gateway: Start, connection: redis.Redis) -> None:
    own = start_gateway()
    client, before = own.client(None), looks_at_keys(connection)
    for _ in range(MAX_NETWORK_LOOKUPS * 2):
        assert client.get(GUARDED, headers=bearer(guesses(1)[0])).status_code == 401
    new = ApiKeys(connection).create("acme")
    assert client.get(GUARDED, headers=bearer(new)).status_code == 200
    assert looks_at_keys(connection) - before < MAX_NETWORK_LOOKUPS


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
    redis_url: str, connection: redis.Redis, one: str, two: str, together: bool
) -> None:
    looked_up = []

    class Noting(ApiKeys):
        def verify(self, key: str) -> str | None:
            looked_up.append(key)
            return super().verify(key)

    async def guess() -> None:
        threads = ThreadPools()
        keyring = KeyCache(Noting(connection), RedisCalls(threads, redis_url))
        addresses = [one] * MAX_NETWORK_LOOKUPS + [two]
        for key, address in zip(guesses(len(addresses)), addresses, strict=True):
            with pytest.raises(Problem) as caught:
                await keyring.authenticate(key, address)
            assert caught.value.code == "unauthorized"
        await threads.close(then=lambda: None)

    asyncio.run(guess())
    assert len(looked_up) == MAX_NETWORK_LOOKUPS + (not together)
