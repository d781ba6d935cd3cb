"""Rate limits, shared by all gateways and over all kinds of connections."""

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
from producer.gateway.access.api_keys import ApiKeys
from producer.gateway.access.rate_limit import RateDecision, RateLimiter
from producer.gateway.http.redis_calls import RedisCalls
from producer.ledger.keys import Keys
from tests.redis_servers import running_sentinels
from tests.tls import running_tls

from .conftest import Run
from .samples import bearer

#: A path that needs a key and reads Redis.
PROTECTED = "/v1/queues"


@asynccontextmanager
async def running_limiter(url: str, per_minute: int = 3) -> AsyncIterator[RateLimiter]:
    client, threads = connect(url), ThreadPools()
    try:
        yield RateLimiter(client, Keys(), per_minute, RedisCalls(threads, url))
    finally:
        await threads.close(then=client.close)


def take_all(url: str, times: int) -> list[bool]:
    """Send requests one after another; return whether each was granted."""

    async def take() -> list[bool]:
        async with running_limiter(url) as limiter:
            return [(await limiter.acquire("key")).granted for _ in range(times)]

    return asyncio.run(take())


def test_requests_are_counted_through_sentinels(tmp_path: Path) -> None:
    with running_sentinels(tmp_path, password="s&=+", sentinel_password="p") as sentinels:
        assert take_all(sentinels.url, 4) == [True, True, True, False]


def test_requests_are_counted_over_tls(redis_url: str, tmp_path: Path) -> None:
    with running_tls(urlsplit(redis_url).port or 0, tmp_path) as (port, authority):
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={authority}"
        assert take_all(url, 4) == [True, True, True, False]


def test_every_waiting_request_fails_without_redis(tmp_path: Path) -> None:
    async def take() -> list[RateDecision | BaseException]:
        async with running_limiter(f"redis://127.0.0.1:{free_port()}/0") as limiter:
            calls: list[Awaitable[RateDecision]] = [limiter.acquire("key") for _ in range(5)]
            return await asyncio.gather(*calls, return_exceptions=True)

    errors = asyncio.run(take())
    assert [type(error) for error in errors] == [ConnectionFailed] * 5
    assert len(set(map(id, errors))) > 1


def test_a_full_redis_does_not_reject_requests() -> None:
    async def take(url: str) -> list[bool]:
        async with running_limiter(url) as limiter:
            granted = [(await limiter.acquire("key")).granted]
            with redis.Redis.from_url(url) as connection:
                connection.config_set("maxmemory", "1")
            return [*granted, (await limiter.acquire("key")).granted]

    with running_redis() as url:
        assert asyncio.run(take(url)) == [True] * 2


def test_a_cancelled_request_does_not_affect_others(redis_url: str) -> None:
    async def take() -> list[bool]:
        async with running_limiter(redis_url) as limiter:
            waiting = [asyncio.create_task(limiter.acquire("key")) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[1].cancel()
            done = await asyncio.gather(*waiting, return_exceptions=True)
            return [first.granted for first in done if isinstance(first, RateDecision)]

    assert asyncio.run(take()) == [True, True]


@pytest.mark.parametrize(
    ("reset_s", "after_s", "reset"), [(-1.0, 1, "t=0"), (0.2, 1, "t=1"), (59.01, 60, "t=60")]
)
def test_a_rejection_has_retry_after(reset_s: float, after_s: int, reset: str) -> None:
    decision = RateDecision(False, 600, 0, reset_s)
    assert decision.retry_after_s == after_s
    assert decision.headers["RateLimit"] == f'"minute";r=0;{reset}'


def test_requests_above_the_rate_are_rejected(run_gateway: Run) -> None:
    client = run_gateway(BLIPLINE_GATEWAY_RATE="3").client()
    answers = [client.get(PROTECTED) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"minute";q=3;w=60'
    assert answers[0].headers["RateLimit"].startswith('"minute";r=2;t=')
    for answer in answers[3:]:
        assert answer.json()["code"] == "rate_limited"
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["RateLimit"].startswith('"minute";r=0;t=')


def test_gateways_share_the_counts(run_gateway: Run) -> None:
    first = run_gateway(BLIPLINE_GATEWAY_RATE="4").client()
    second = run_gateway(BLIPLINE_GATEWAY_RATE="4").client()
    seen = [
        client.get(PROTECTED).status_code
        for client in (first, second, first, second, first, second)
    ]
    assert seen == [200, 200, 200, 200, 429, 429]


def test_each_key_has_its_own_rate_and_health_checks_none(
    run_gateway: Run, connection: redis.Redis
) -> None:
    own = run_gateway(BLIPLINE_GATEWAY_RATE="1")
    second = ApiKeys(connection).create("acme")
    assert own.client("acme").get(PROTECTED).status_code == 200
    assert own.client("acme").get(PROTECTED).status_code == 429
    assert own.client("other").get(PROTECTED).status_code == 200
    assert own.client(None).get(PROTECTED, headers=bearer(second)).status_code == 200
    assert {own.client(None).get("/healthz").status_code for _ in range(5)} == {200}


def test_simultaneous_requests_are_each_counted(run_gateway: Run) -> None:
    own = run_gateway(BLIPLINE_GATEWAY_RATE="10")

    async def many() -> list[int]:
        async with own.async_client() as client:
            answers = await asyncio.gather(*(client.get(PROTECTED) for _ in range(40)))
        return sorted(answer.status_code for answer in answers)

    assert asyncio.run(many()) == [200] * 10 + [429] * 30


def test_counters_have_the_prefix_of_the_deployment(
    run_gateway: Run, connection: redis.Redis
) -> None:
    key = ApiKeys(connection, Keys("ours:")).create("acme")
    before = set(connection.scan_iter())
    own = run_gateway(BLIPLINE_GATEWAY_RATE="5", BLIPLINE_KEY_PREFIX="ours:")
    assert own.client(None).get(PROTECTED, headers=bearer(key)).status_code == 200
    assert own.client("acme").get(PROTECTED).status_code == 401
    new = set(connection.scan_iter()) - before
    assert any(b"rates" in name for name in new)
    assert all(name.startswith(b"ours:") for name in new)
    assert all(0 < int(connection.ttl(name)) <= 120 for name in new if b"rates" in name)
