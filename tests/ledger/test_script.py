"""The Lua script: loading, pipelining, replicas."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter

import pytest
import redis

from demo.stack import running_redis
from producer import AsyncClient, Client, ClientSettings, ConnectionFailed, Queue, contract
from producer.ledger.script import SOURCE

from .jobs import urls


def test_a_job_that_too_few_replicas_acknowledge_does_not_count_as_submitted(
    redis_url: str, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.ledger.script.REPLICAS_WAIT_MS", 50)
    url = "https://x/1.jpg"
    with Client(settings=ClientSettings(redis_url=redis_url, replicas=1)) as client:
        with pytest.raises(ConnectionFailed, match="0 of 1 replicas acknowledged"):
            client.caption(url)
        port = connection.connection_pool.connection_kwargs["port"]
        with running_redis(None, "--replicaof", "127.0.0.1", str(port)):
            deadline = time.monotonic() + 20
            while connection.info("replication").get("slave0", {}).get("state") != "online":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            monkeypatch.setattr("producer.ledger.script.REPLICAS_WAIT_MS", 20_000)
            assert client.caption(url).status() == "queued"


def test_the_script_is_loaded_on_a_server_that_does_not_hold_it(
    redis_url: str, connection: redis.Redis
) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            for _ in range(2):
                # As after a restart, or at the server that a failover leads to.
                connection.script_flush()
                await asyncio.gather(*(client.submit("https://x/1.jpg") for _ in range(3)))

    asyncio.run(scenario())
    with Client(redis_url) as client:
        connection.script_flush()
        client.caption("https://x/1.jpg")
        connection.script_flush()
        client.submit_batch(urls(6), chunk_items=2)
        assert client.depth().items == {Queue.INTERACTIVE: 7, Queue.BULK: 6}


def test_a_server_without_the_script_still_reports_the_replicas(
    redis_url: str, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.ledger.script.REPLICAS_WAIT_MS", 50)
    with Client(settings=ClientSettings(redis_url=redis_url, replicas=1)) as client:
        connection.script_flush()
        with pytest.raises(ConnectionFailed, match="0 of 1 replicas acknowledged"):
            client.caption("https://x/1.jpg")


def test_a_single_job_takes_one_round_trip(client: Client, connection: redis.Redis) -> None:
    def commands() -> dict[str, int]:
        stats = connection.info("commandstats")
        return {name: int(figures["calls"]) for name, figures in stats.items()}

    client.caption("https://x/1.jpg")
    before = commands()
    client.caption("https://x/1.jpg")
    after = commands()
    called = {name for name in after if after[name] != before.get(name)}
    assert after["cmdstat_evalsha"] == before["cmdstat_evalsha"] + 1
    # The statistics include the commands of the script.
    assert not called & {"cmdstat_script", "cmdstat_script|exists", "cmdstat_eval"}
    assert after["cmdstat_publish"] == before["cmdstat_publish"] + 1


def test_the_script_and_the_contract_agree_on_the_ttl_of_uploads() -> None:
    assert f"local UPLOAD_TTL_S = {contract.UPLOAD_TTL_S}\n" in SOURCE


def test_no_operation_of_the_script_is_defined_twice() -> None:
    """Lua would silently use the last definition."""
    names = re.findall(r"^(?:local )?function (\S+?)\(", SOURCE, re.MULTILINE)
    assert len(names) > 40
    assert [name for name, count in Counter(names).items() if count > 1] == []
