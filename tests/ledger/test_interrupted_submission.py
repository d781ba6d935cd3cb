"""Interrupted submissions: several passes over the items of one batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from producer import Client, ConnectionFailed, JobUnknown
from producer.ledger.keys import Keys
from producer.ledger.submission import SubmissionInterrupted
from producer.results.progress import Progress
from tests.batch_items import Finish, texts, urls

KEYS = Keys()
ID = "nightly"
DEAD = "the line is dead"


@contextmanager
def started_submission(client: Client) -> Iterator[Callable[[], None]]:
    """Start a submission; yield a function that interrupts it."""
    started, die = threading.Event(), threading.Event()

    def items() -> Iterator[str]:
        started.set()
        assert die.wait(30)
        raise OSError(DEAD)
        yield

    def submit() -> None:
        with pytest.raises(OSError, match=DEAD):
            client.submit_batch(items(), batch_id=ID, chunk_items=2)

    def interrupt() -> None:
        die.set()
        thread.join()

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        assert started.wait(30)
        yield interrupt
    finally:
        interrupt()


def submit_interrupted(client: Client, count: int, webhook: str = "") -> None:
    """Submit a number of items, and interrupt the submission."""

    def interrupt(total: int) -> None:
        raise OSError(DEAD)

    with pytest.raises(OSError, match=DEAD):
        client.submit_batch(
            urls(count), batch_id=ID, chunk_items=2, webhook=webhook, on_submitted=interrupt
        )


def test_an_interrupted_pass_does_not_end_the_next_one(client: Client) -> None:
    seen: list[Progress] = []
    with started_submission(client) as interrupt:

        def items() -> Iterator[str]:
            yield from urls(2)
            interrupt()
            seen.append(client.batch(ID).progress())

        client.submit_batch(items(), batch_id=ID, chunk_items=2)
    assert [(now.submitted, now.cut, now.finished) for now in seen] == [(False, False, False)]
    assert not client.batch(ID).progress().cut


def test_a_complete_batch_stays_complete_when_an_older_pass_is_interrupted(client: Client) -> None:
    with started_submission(client) as interrupt:
        client.submit_batch(urls(2), batch_id=ID, chunk_items=2)
        interrupt()
    now = client.batch(ID).progress()
    assert (now.submitted, now.cut) == (True, False)


def test_the_last_of_two_interrupted_passes_ends_the_batch(client: Client) -> None:
    with started_submission(client) as interrupt:
        submit_interrupted(client, 2)
        interrupt()
    assert client.batch(ID).progress().cut


def test_a_submission_interrupted_before_its_first_item_leaves_no_batch(client: Client) -> None:
    with started_submission(client) as interrupt:
        assert not client.batch(ID).progress().finished
        interrupt()
    with pytest.raises(JobUnknown):
        client.batch(ID).progress()
    client.submit_batch(urls(2), task="embed", batch_id=ID)
    assert client.batch(ID).progress().total == 2


def test_whole_chunks_before_an_announced_interruption_are_published(client: Client) -> None:
    class LineDead(SubmissionInterrupted):
        pass

    def items() -> Iterator[str]:
        yield from urls(7)
        raise LineDead(DEAD)

    with pytest.raises(LineDead):
        client.submit_batch(items(), batch_id=ID, chunk_items=2)
    progress = client.batch(ID).progress()
    assert (progress.total, progress.submitted, progress.cut) == (6, True, True)
    assert client.submit_batch(urls(8), batch_id=ID, chunk_items=2).progress().total == 8


def test_a_resumed_batch_has_not_ended(client: Client, finish: Finish) -> None:
    submit_interrupted(client, 2)
    finish(f"{ID}:0", texts(0, 2))
    assert client.batch(ID).progress().finished
    with started_submission(client):
        assert not client.batch(ID).progress().finished


def test_only_a_complete_batch_has_a_webhook_event_and_one_alone(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    def events() -> int:
        return int(connection.hget(KEYS.batch(ID), "webhook_event") or 0)

    submit_interrupted(client, 2, webhook="https://example.com/hook")
    finish(f"{ID}:0", texts(0, 2))
    assert events() == 0
    assert client.batch(ID).progress().cut
    for _ in range(2):
        client.submit_batch(urls(2), batch_id=ID, chunk_items=2)
        assert events() == 1


def test_a_batch_closed_by_hand_has_a_webhook_event(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    submit_interrupted(client, 2, webhook="https://example.com/hook")
    finish(f"{ID}:0", texts(0, 2))
    client.batch(ID).close()
    assert connection.hget(KEYS.batch(ID), "webhook_event") == b"1"
    assert not client.batch(ID).progress().cut


@pytest.mark.parametrize("items_after", [0, 5])
def test_a_submission_whose_accepted_items_redis_has_lost_is_an_error_and_can_be_repeated(
    client: Client, connection: redis.Redis, items_after: int
) -> None:
    """As after a restart without the last second of writes."""

    def items() -> Iterator[str]:
        yield from urls(4)
        while client.batch(ID).progress().total < 4:
            # A group is sent once its first chunk has waited.
            yield from urls(2)
        total = int(connection.hget(KEYS.batch(ID), "total") or 0)
        connection.hset(KEYS.batch(ID), "total", 2)
        for number in range(1, total // 2):
            connection.delete(KEYS.record(f"{ID}:{number}"), KEYS.digests(ID))
            connection.zrem(KEYS.open, f"{ID}:{number}")
        yield from urls(items_after)

    with pytest.raises(ConnectionFailed, match=f"again with batch_id='{ID}'"):
        client.submit_batch(items(), batch_id=ID, chunk_items=2)
    assert client.batch(ID).progress().cut
    client.submit_batch(urls(8), batch_id=ID, chunk_items=2)
    assert client.batch(ID).progress().total == 8
