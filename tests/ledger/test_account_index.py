"""The index of an account: pages in order, also of entries of the same time."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import redis

from producer import Client, InvalidInput
from producer.gateway.settings import GatewaySettings
from producer.ledger.account_index import AccountIndex, IndexEntry
from producer.ledger.ledger import Ledger
from producer.ledger.script import SOURCE

from .jobs import KEYS

URL = "https://images.example.com/cat.jpg"


def read_all(index: AccountIndex, count: int, **bounds: Any) -> list[IndexEntry]:
    """Return all entries of acme's jobs, read in pages."""
    entries: list[IndexEntry] = []
    while page := index.page(
        "acme", "job", count, after=entries[-1] if entries else None, **bounds
    ):
        entries += [IndexEntry.of_cursor(entry.cursor) for entry in page]
    return entries


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_pages_contain_every_entry_once_in_order(connection: redis.Redis, count: int) -> None:
    rng = Random(3)
    # Few times, so that many entries share one.
    scores = {f"job-{number}": 1_795_000_000.000123 + rng.randrange(4) for number in range(20)}
    connection.zadd(KEYS.index("acme", "job"), scores)
    index = AccountIndex(connection)
    expected = sorted(scores.items(), key=lambda pair: (pair[1], pair[0]), reverse=True)
    assert [(entry.id, entry.submitted_at) for entry in read_all(index, count)] == expected
    since, until = min(scores.values()) + 1, max(scores.values()) - 1
    between = read_all(index, count, since=since, until=until)
    assert [entry.id for entry in between] == [
        name for name, score in expected if since <= score <= until
    ]


def test_a_page_continues_after_an_entry_that_has_expired(connection: redis.Redis) -> None:
    connection.zadd(KEYS.index("acme", "job"), {"a": 1, "b": 2, "c": 3})
    index = AccountIndex(connection)
    (first,) = index.page("acme", "job", 1)
    connection.zrem(KEYS.index("acme", "job"), "c")
    assert [entry.id for entry in index.page("acme", "job", 5, after=first)] == ["b", "a"]


def test_single_jobs_and_batches_are_listed_until_they_are_deleted(
    redis_url: str, connection: redis.Redis
) -> None:
    index, ledger = AccountIndex(connection), Ledger(connection)
    with Client(settings=GatewaySettings(redis_url=redis_url)) as client:
        for name in ("x", "x.batch.y"):
            client.submit({"image": URL}, "caption", job_id=f"acme.job.{name}")
        client.caption(URL)
        client.submit_batch([{"image": URL}] * 40, batch_id="acme.batch.photos", chunk_items=2)
    assert [entry.id for entry in index.page("acme", "job", 9)] == ["x.batch.y", "x"]
    assert [entry.id for entry in index.page("acme", "batch", 9)] == ["photos"]
    ledger.delete_jobs(["acme.job.x", "acme.job.x.batch.y"])
    ledger.delete_batch("acme.batch.photos", 20)
    names: Any = connection.keys("*index*")
    assert names == []


def count_commands(connection: redis.Redis, client: Client, job_id: str | None) -> int:
    """Return the number of commands, those of the script included, of a submission."""
    client.submit({"image": URL}, "caption", job_id=f"{job_id}.warm" if job_id else None)
    connection.config_resetstat()
    client.submit({"image": URL}, "caption", job_id=job_id)
    stats: Any = connection.info("commandstats")
    names = {"cmdstat_zadd", "cmdstat_zrem", "cmdstat_time", "cmdstat_evalsha"}
    return sum(stats[name]["calls"] for name in names & stats.keys())


@pytest.mark.parametrize(("job_id", "added"), [("acme.job.x", 1), (None, 0)])
def test_the_index_costs_a_command_for_each_job_of_an_account(
    redis_url: str, connection: redis.Redis, job_id: str | None, added: int
) -> None:
    line = "    if index and not stored then redis.call('ZADD', index, string"
    assert line in SOURCE
    with Client(settings=GatewaySettings(redis_url=redis_url)) as client:
        count = count_commands(connection, client, job_id)
        connection.flushdb()
        without = SOURCE.replace(line, line.replace("if index", "if false"))
        connection.script_load(without)
        client._ledger._script._script = connection.register_script(without)
        assert count - count_commands(connection, client, job_id) == added


@pytest.mark.parametrize("cursor", ["", "x", "1-", "1.1234567-a", f"1-{'x' * 65}", "-1-a", "nan-a"])
def test_a_cursor_that_no_page_has_returned_is_an_error(cursor: str) -> None:
    with pytest.raises(InvalidInput, match="next_cursor"):
        IndexEntry.of_cursor(cursor)
