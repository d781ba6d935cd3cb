"""How often a key may ask, counted over all gateways, and over any connection of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from demo.stack import free_port, running_redis
from producer.aio.thread_pools import ThreadPools
from producer.connection.connect import connect
from producer.errors import ConnectionFailed
from producer.gateway.api_keys import ApiKeys
from producer.gateway.rate_limit import RateDecision, RateLimiter
from producer.gateway.redis_calls import RedisCalls
from producer.ledger.keys import Keys
from tests.redis_servers import running_sentinels
from tests.tls import running_tls

from .conftest import Start
from .samples import bearer

#: A path that needs a key and touches Redis.
GUARDED = "/v1/queues"


@asynccontextmanager
async def rates(url: str, per_minute: int = 3) -> AsyncIterator[RateLimiter]:
    client, threads = connect(url), ThreadPools()
    try:
        yield RateLimiter(client, Keys(), per_minute, RedisCalls(threads, url))
    finally:
        await threads.close(then=client.close)


def taken(url: str, times: int) -> list[bool]:
    """Whether each of so many requests, one after another, was granted."""

    async def take() -> list[bool]:
        async with rates(url) as counted:
            return [(await counted.take("key")).granted for _ in range(times)]

    return asyncio.run(take())


def test_it_counts_through_sentinels(tmp_path: Path) -> None:
    with running_sentinels(tmp_path, password="s&=+", sentinel_password="p") as found:
        assert taken(found.url, 4) == [True, True, True, False]


def test_it_counts_over_tls(redis_url: str, tmp_path: Path) -> None:
    with running_tls(urlsplit(redis_url).port or 0, tmp_path) as (port, authority):
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={authority}"
        assert taken(url, 4) == [True, True, True, False]


def test_without_redis_all_who_wait_are_told(tmp_path: Path) -> None:
    async def take() -> list[RateDecision | BaseException]:
        async with rates(f"redis://127.0.0.1:{free_port()}/0") as counted:
            calls: list[Awaitable[RateDecision]] = [counted.take("key") for _ in range(5)]
            return await asyncio.gather(*calls, return_exceptions=True)

    errors = asyncio.run(take())
    assert [type(error) for error in errors] == [ConnectionFailed] * 5
    assert len(set(map(id, errors))) > 1


def test_a_full_redis_holds_nobody_up_who_reads() -> None:
    async def take(url: str) -> list[bool]:
        async with rates(url) as counted:
            granted = [(await counted.take("key")).granted]
            with redis.Redis.from_url(url) as connection:
                connection.config_set("maxmemory", "1")
            return [*granted, (await counted.take("key")).granted]

    with running_redis() as url:
        assert asyncio.run(take(url)) == [True] * 2


def test_who_hangs_up_does_not_take_the_count_from_others(redis_url: str) -> None:
    async def take() -> list[bool]:
        async with rates(redis_url) as counted:
            waiting = [asyncio.create_task(counted.take("key")) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[1].cancel()
            done = await asyncio.gather(*waiting, return_exceptions=True)
            return [one.granted for one in done if isinstance(one, RateDecision)]

    assert asyncio.run(take()) == [True, True]


@pytest.mark.parametrize(
    ("more_s", "after_s", "reset"), [(-1.0, 1, "t=0"), (0.2, 1, "t=1"), (59.01, 60, "t=60")]
)
def test_it_says_when_there_is_more(more_s: float, after_s: int, reset: str) -> None:
    allowance = RateDecision(False, 600, 0, more_s)
    assert allowance.retry_after_s == after_s
    assert allowance.headers["RateLimit"] == f'"minute";r=0;{reset}'


def test_a_rate_is_kept_to_and_says_when_to_come_again(start_gateway: Start) -> None:
    client = start_gateway(BLIPLINE_GATEWAY_RATE="3").client()
    answers = [client.get(GUARDED) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"minute";q=3;w=60'
    assert answers[0].headers["RateLimit"].startswith('"minute";r=2;t=')
    for answer in answers[3:]:
        assert answer.json()["code"] == "rate_limited"
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["RateLimit"].startswith('"minute";r=0;t=')


def test_a_rate_is_counted_over_all_gateways(start_gateway: Start) -> None:
    one, two = (start_gateway(BLIPLINE_GATEWAY_RATE="4").client() for _ in range(2))
    seen = [client.get(GUARDED).status_code for client in (one, two, one, two, one, two)]
    assert seen == [200, 200, 200, 200, 429, 429]


def test_each_key_has_a_rate_of_its_own_and_health_has_none(
    start_gateway: Start, connection: redis.Redis
) -> None:
    own = start_gateway(BLIPLINE_GATEWAY_RATE="1")
    second = ApiKeys(connection).create("acme")
    assert own.client("acme").get(GUARDED).status_code == 200
    assert own.client("acme").get(GUARDED).status_code == 429
    assert own.client("other").get(GUARDED).status_code == 200
    assert own.client(None).get(GUARDED, headers=bearer(second)).status_code == 200
    assert {own.client(None).get("/healthz").status_code for _ in range(5)} == {200}


def test_requests_of_one_moment_are_counted_one_by_one(start_gateway: Start) -> None:
    own = start_gateway(BLIPLINE_GATEWAY_RATE="10")

    async def many() -> list[int]:
        async with own.async_client() as client:
            answers = await asyncio.gather(*(client.get(GUARDED) for _ in range(40)))
        return sorted(answer.status_code for answer in answers)

    assert asyncio.run(many()) == [200] * 10 + [429] * 30


def test_counters_have_the_prefix_of_the_deployment(
    start_gateway: Start, connection: redis.Redis
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
