"""Redis keys: the prefix of a deployment."""

from __future__ import annotations

from typing import Any

import redis

from producer import Client, ClientSettings, contract
from producer.ledger import Leases
from producer.ledger.keys import Keys

from .jobs import store_result, urls


def test_a_prefix_begins_every_key(redis_url: str, connection: redis.Redis) -> None:
    settings = ClientSettings(redis_url=redis_url, key_prefix="a:")
    leases = Leases(connection, Keys("a:"))
    with Client(settings=settings) as client:
        client.submit_batch(urls(40), chunk_items=2)
        job = client.caption(b"\x89PNG")
        leases.claim(job.id)
        store_result(leases, job.id, [contract.failure("internal", "x")])
        leases.sweep(60)
    keys: Any = connection.keys("*")
    assert [key for key in keys if not key.startswith(b"a:")] == []
