"""Cache of API keys: valid and invalid keys, look-ups in Redis, and guesses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis

from producer.aio.thread_pools import ThreadPools
from producer.gateway.access.api_keys import ApiKey, ApiKeys, key_id_of
from producer.gateway.access.key_cache import MAX_NETWORK_LOOKUPS, KeyCache
from producer.gateway.http.problems import Problem
from producer.gateway.http.redis_calls import RedisCalls

from .conftest import Reached, Run
from .samples import bearer

#: A path that needs a key and reads Redis.
PROTECTED = "/v1/queues"


def wait_for(send: Callable[[], httpx.Response], status: int) -> httpx.Response:
    """Repeat a request until its response has this status."""
    while (answer := send()).status_code != status:
        time.sleep(0.1)
    return answer


def lookups(connection: redis.Redis) -> int:
    """Return the number of reads of hash fields, which API keys are."""
    stats: Any = connection.info("commandstats")
    return int(stats.get("cmdstat_hget", {}).get("calls", 0))


def test_a_new_key_sees_the_jobs_of_its_name_immediately(
    gateway: Reached, connection: redis.Redis
) -> None:
    key = ApiKeys(connection).create("acme")
    payload = {"task": "caption", "image": "https://images.example.com/cat.jpg"}
    assert gateway.client().put("/v1/jobs/shared-by-keys", json=payload).status_code == 202
    answer = gateway.client(None).get("/v1/jobs/shared-by-keys", headers=bearer(key))
    assert answer.status_code == 200


def test_a_revoked_key_becomes_invalid_soon(gateway: Reached, connection: redis.Redis) -> None:
    keys = ApiKeys(connection)
    old, new = keys.create("acme"), keys.create("acme")
    client = gateway.client(None)
    assert client.get(PROTECTED, headers=bearer(old)).status_code == 200
    assert keys.revoke(key_id_of(old) or "")
    wait_for(lambda: client.get(PROTECTED, headers=bearer(old)), 401)
    assert client.get(PROTECTED, headers=bearer(new)).status_code == 200


def test_a_valid_key_is_cached(gateway: Reached, connection: redis.Redis) -> None:
    key = ApiKeys(connection).create("acme")
    client, before = gateway.client(None), lookups(connection)
    requests = 30
    for _ in range(requests):
        assert client.get(PROTECTED, headers=bearer(key)).status_code == 200
    # The answer reads one field. Another one for each 5 seconds that this takes on a busy machine.
    assert lookups(connection) - before < requests + 15


def guesses(count: int) -> list[str]:
    return [f"blip_{number:012x}_{'0' * 48}" for number in range(count)]


def test_guessed_keys_cost_few_lookups_and_block_no_valid_key(
    run_gateway: Run, connection: redis.Redis
) -> None:
    own, many = run_gateway(), MAX_NETWORK_LOOKUPS * 4
    new = ApiKeys(connection).create("acme")

    async def guess() -> list[int]:
        async with own.async_client(None) as client:
            keys = [*guesses(many), own.keys["other"], new]
            answers = [client.get(PROTECTED, headers=bearer(key)) for key in keys]
            return [answer.status_code for answer in await asyncio.gather(*answers)]

    before = lookups(connection)
    assert asyncio.run(guess()) == [401] * many + [200, 200]
    assert lookups(connection) - before <= MAX_NETWORK_LOOKUPS + 4


def test_repeating_an_invalid_key_does_not_use_up_the_limit(
    run_gateway: Run, connection: redis.Redis
) -> None:
    own = run_gateway()
    client, before = own.client(None), lookups(connection)
    for _ in range(MAX_NETWORK_LOOKUPS * 2):
        assert client.get(PROTECTED, headers=bearer(guesses(1)[0])).status_code == 401
    new = ApiKeys(connection).create("acme")
    assert client.get(PROTECTED, headers=bearer(new)).status_code == 200
    assert lookups(connection) - before < MAX_NETWORK_LOOKUPS


def test_an_invalid_key_is_cached(gateway: Reached, connection: redis.Redis) -> None:
    client, before = gateway.client(None), lookups(connection)
    for _ in range(20):
        client.get(PROTECTED, headers=bearer(f"blip_{'a' * 12}_{'1' * 48}"))
    assert lookups(connection) - before < 10


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("not an address", "another", False),
    ],
)
def test_lookups_are_counted_by_network(
    redis_url: str, connection: redis.Redis, first: str, second: str, shared: bool
) -> None:
    looked_up = []

    class RecordingApiKeys(ApiKeys):
        def find(self, key: str) -> ApiKey | None:
            looked_up.append(key)
            return super().find(key)

    async def guess() -> None:
        threads = ThreadPools()
        key_cache = KeyCache(RecordingApiKeys(connection), RedisCalls(threads, redis_url))
        addresses = [first] * MAX_NETWORK_LOOKUPS + [second]
        for key, address in zip(guesses(len(addresses)), addresses, strict=True):
            with pytest.raises(Problem) as caught:
                await key_cache.authenticate(key, address)
            assert caught.value.code == "unauthorized"
        await threads.close(then=lambda: None)

    asyncio.run(guess())
    assert len(looked_up) == MAX_NETWORK_LOOKUPS + (not shared)
