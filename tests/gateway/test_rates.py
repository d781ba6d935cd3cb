"""Counting requests over connections of ours: prefix, Sentinel, TLS, a Redis that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from demo.stack import free_port, running_redis
from producer.connection import connect
from producer.errors import ConnectionFailed
from producer.gateway.rates import Allowance, Rates
from producer.keys import Keys
from producer.threads import Threads
from tests.redis_servers import running_sentinels
from tests.tls import running_tls


@asynccontextmanager
async def rates(url: str, per_minute: int = 3) -> AsyncIterator[Rates]:
    client, threads = connect(url), Threads()
    try:
        yield Rates(client, Keys(), per_minute, threads, url)
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
    async def take() -> list[Allowance | BaseException]:
        async with rates(f"redis://127.0.0.1:{free_port()}/0") as counted:
            calls: list[Awaitable[Allowance]] = [counted.take("key") for _ in range(5)]
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
            return [one.granted for one in done if isinstance(one, Allowance)]

    assert asyncio.run(take()) == [True, True]


@pytest.mark.parametrize(
    ("more_s", "after_s", "reset"), [(-1.0, 1, "t=0"), (0.2, 1, "t=1"), (59.01, 60, "t=60")]
)
def test_it_says_when_there_is_more(more_s: float, after_s: int, reset: str) -> None:
    allowance = Allowance(False, 600, 0, more_s)
    assert allowance.retry_after_s == after_s
    assert allowance.headers["RateLimit"] == f'"minute";r=0;{reset}'
