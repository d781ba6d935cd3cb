"""Malformed messages: bounded in number and size, also in a full Redis."""

from __future__ import annotations

import pytest
import redis

from demo.stack import running_redis
from producer.contract import RESULT_TTL_S
from producer.ledger.keys import Keys
from producer.ledger.malformed import KEPT_BYTES, MAX_MESSAGES, MalformedMessages


@pytest.fixture
def malformed(connection: redis.Redis) -> MalformedMessages:
    return MalformedMessages(connection)


def test_any_bytes_are_kept_with_their_reason(malformed: MalformedMessages) -> None:
    data = bytes(range(256))
    entry = malformed.add("bulk", data, "not JSON")
    assert malformed.read_all() == [entry]
    assert (entry.queue, entry.data, entry.size_bytes) == ("bulk", data, 256)
    assert entry.reason == "not JSON"


def test_only_the_first_bytes_of_a_message_are_kept(malformed: MalformedMessages) -> None:
    entry = malformed.add("bulk", b"x" * 10 * KEPT_BYTES, "y" * 10_000)
    assert (len(entry.data), entry.size_bytes) == (KEPT_BYTES, 10 * KEPT_BYTES)
    assert len(entry.reason) <= 500


def test_only_the_newest_messages_are_kept(
    malformed: MalformedMessages, connection: redis.Redis
) -> None:
    ids = [malformed.add("bulk", b"", "").id for _ in range(MAX_MESSAGES + 10)]
    assert [entry.id for entry in malformed.read_all()] == ids[:9:-1]
    assert 0 < connection.ttl(Keys().malformed) <= RESULT_TTL_S


def test_messages_are_removed_one_by_one_or_all(malformed: MalformedMessages) -> None:
    ids = [malformed.add("bulk", b"same", "same").id for _ in range(4)]
    assert malformed.remove([ids[1], "nobody"]) == 1
    assert [entry.id for entry in malformed.read_all()] == [ids[3], ids[2], ids[0]]
    assert malformed.clear() == 3
    assert malformed.clear() == 0


def test_only_keys_of_a_wrong_type_are_renamed(connection: redis.Redis) -> None:
    malformed = MalformedMessages(connection, Keys("a:"))
    connection.hset("a:bulk", "x", "y")
    connection.rpush("a:interactive", "x")
    connection.hset("bulk", "x", "y")
    types = {"bulk": "list", "interactive": "list", "absent": "list"}
    (entry,) = malformed.displace(types)
    assert "a:bulk is a hash" in entry.reason
    assert connection.hgetall("a:blipline:displaced:bulk") == {b"x": b"y"}
    assert 0 < connection.ttl("a:blipline:displaced:bulk") <= RESULT_TTL_S
    assert connection.exists("bulk", "a:interactive") == 2
    assert malformed.displace(types) == []


def test_a_full_redis_keeps_them_too() -> None:
    with running_redis() as url, redis.Redis.from_url(url) as connection:
        malformed = MalformedMessages(connection)
        connection.set("bulk", "x")
        connection.config_set("maxmemory", 1)
        with pytest.raises(redis.OutOfMemoryError):
            connection.set("more", "x")
        malformed.add("bulk", b"{", "not JSON")
        malformed.displace({"bulk": "list"})
        assert len(malformed.read_all()) == 2
        assert malformed.clear() == 2
