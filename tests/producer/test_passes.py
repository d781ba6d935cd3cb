"""Submissions of one batch by more than one pass: what one that breaks off may say of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from producer import Client
from producer.ledger.keys import Keys
from producer.progress import Progress

from .test_batch import Finish, texts, urls

KEYS = Keys()
ID = "nightly"
DEAD = "the line is dead"


@contextmanager
def begun(client: Client) -> Iterator[Callable[[], None]]:
    """A submission that has begun; the call lets it break off."""
    began, die = threading.Event(), threading.Event()

    def items() -> Iterator[str]:
        began.set()
        assert die.wait(30)
        raise OSError(DEAD)
        yield

    def submit() -> None:
        with pytest.raises(OSError, match=DEAD):
            client.submit_batch(items(), batch_id=ID, chunk_items=2)

    def break_off() -> None:
        die.set()
        thread.join()

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        assert began.wait(30)
        yield break_off
    finally:
        break_off()


def submit_cut(client: Client, count: int, webhook: str = "") -> None:
    """A submission that breaks off once so many items are in."""

    def break_off(total: int) -> None:
        raise OSError(DEAD)

    with pytest.raises(OSError, match=DEAD):
        client.submit_batch(
            urls(count), batch_id=ID, chunk_items=2, webhook=webhook, on_submitted=break_off
        )


def test_a_pass_that_broke_off_does_not_end_the_next_one(client: Client) -> None:
    seen: list[Progress] = []
    with begun(client) as break_off:

        def items() -> Iterator[str]:
            yield from urls(2)
            break_off()
            seen.append(client.batch(ID).progress())

        client.submit_batch(items(), batch_id=ID, chunk_items=2)
    assert [(one.submitted, one.cut, one.finished) for one in seen] == [(False, False, False)]
    assert not client.batch(ID).progress().cut


def test_what_is_in_as_a_whole_stays_so_when_an_older_pass_breaks_off(client: Client) -> None:
    with begun(client) as break_off:
        client.submit_batch(urls(2), batch_id=ID, chunk_items=2)
        break_off()
    now = client.batch(ID).progress()
    assert (now.submitted, now.cut) == (True, False)


def test_of_two_passes_that_break_off_the_last_one_ends_the_batch(client: Client) -> None:
    with begun(client) as break_off:
        submit_cut(client, 2)
        break_off()
    assert client.batch(ID).progress().cut


def test_a_batch_that_is_gone_on_with_has_not_ended(client: Client, finish: Finish) -> None:
    submit_cut(client, 2)
    finish(f"{ID}:0", texts(0, 2))
    assert client.batch(ID).progress().finished
    with begun(client):
        assert not client.batch(ID).progress().finished


def test_only_a_batch_that_is_in_as_a_whole_is_announced_and_once(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    def announced() -> int:
        return int(connection.hget(KEYS.batch(ID), "webhook_event") or 0)

    submit_cut(client, 2, webhook="https://example.com/hook")
    finish(f"{ID}:0", texts(0, 2))
    assert announced() == 0
    assert client.batch(ID).progress().cut
    for _ in range(2):
        client.submit_batch(urls(2), batch_id=ID, chunk_items=2)
        assert announced() == 1


def test_what_is_closed_by_hand_is_announced(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    submit_cut(client, 2, webhook="https://example.com/hook")
    finish(f"{ID}:0", texts(0, 2))
    client.batch(ID).close()
    assert connection.hget(KEYS.batch(ID), "webhook_event") == b"1"
    assert not client.batch(ID).progress().cut
