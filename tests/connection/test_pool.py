"""Connection pools: more threads than connections wait, within a limit."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from producer import AsyncClient, Client, ConnectionFailed
from producer.connection import pool
from producer.connection.connect import connect
from producer.settings import ClientSettings
from tests.redis_servers import running_sentinels
from tests.tls import running_tls

URL = "https://images.example.com/cat.jpg"


def test_two_hundred_threads_of_one_client_wait_for_a_connection(
    redis_url: str, connection: redis.Redis
) -> None:
    settings = ClientSettings(redis_url=redis_url, max_connections=3)
    start = threading.Barrier(200)
    before = connection.info("clients")["connected_clients"]
    with Client(settings=settings) as client, ThreadPoolExecutor(200) as threads:

        def work(_: int) -> Any:
            start.wait()
            client.depth()
            return client.caption(URL).status()

        assert {state.value for state in threads.map(work, range(200))} == {"queued"}
        assert connection.info("clients")["connected_clients"] - before <= 3


def test_an_asynchronous_client_with_one_connection_serves_all_its_calls(redis_url: str) -> None:
    settings = ClientSettings(redis_url=redis_url, max_connections=1)

    async def work(client: AsyncClient, number: int) -> None:
        job = await client.submit(b"a picture", job_id=f"job-{number}", when_full="wait")
        batch = await client.submit_batch([URL] * 3)
        assert (await job.status()).value == "queued"
        assert (await batch.progress()).total == 3
        await client.depth()
        await job.cancel()

    async def work_all() -> None:
        async with AsyncClient(settings=settings) as client:
            await asyncio.gather(*(work(client, number) for number in range(30)))

    asyncio.run(work_all())


def test_a_wait_for_a_connection_ends_with_the_setting_and_the_remedy(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "POOL_WAIT_S", 0.1)
    settings = ClientSettings(redis_url=redis_url, max_connections=2, redis_wait_s=0)
    with Client(settings=settings) as client:
        used = [client._redis.connection_pool.get_connection() for _ in range(2)]
        with pytest.raises(ConnectionFailed) as raised:
            client.depth()
        assert "all 2 connections" in str(raised.value)
        assert "BLIPLINE_MAX_CONNECTIONS" in str(raised.value)
        client._redis.connection_pool.release(used.pop())
        client.depth()


def test_a_failed_command_gives_its_connection_back(redis_url: str) -> None:
    with connect(redis_url, max_connections=1) as client:
        for _ in range(3):
            with pytest.raises(redis.ResponseError):
                client.execute_command("NO SUCH COMMAND")
        with pytest.raises(redis.ResponseError):
            client.eval("return redis.error_reply('no')", 0)
        assert client.ping()


def test_threads_wait_for_connections_to_the_master_of_sentinels(tmp_path: Path) -> None:
    with (
        running_sentinels(tmp_path) as servers,
        connect(servers.url, max_connections=2) as client,
        ThreadPoolExecutor(120) as threads,
    ):
        assert all(threads.map(lambda _: client.ping(), range(240)))
        client.connection_pool.disconnect()
        assert all(threads.map(lambda _: client.ping(), range(240)))


def test_threads_wait_for_connections_over_tls(redis_url: str, tmp_path: Path) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with running_tls(port, tmp_path) as (tls_port, authority):
        url = f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={authority}"
        with connect(url, max_connections=2) as client, ThreadPoolExecutor(20) as threads:
            assert all(threads.map(lambda _: client.ping(), range(40)))
