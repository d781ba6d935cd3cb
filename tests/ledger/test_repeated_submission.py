"""Repeated submissions: the same items resume a batch, other items are rejected at any time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from producer import Client, IdTaken
from producer.contract import RESULT_TTL_S
from producer.ledger.keys import Keys
from tests.batch_items import Finish, texts

KEYS: Final = Keys()
ID: Final = "nightly"
#: Items of a batch of three chunks.
COUNT: Final = 6
CHUNK: Final = 2


def items() -> list[dict[str, Any]]:
    """Return items with each kind of field."""
    return [
        {
            "image": f"https://images.example.com/{number}.jpg",
            "question": f"how many? {number}",
            "task": "vqa",
            "custom_id": str(number),
        }
        for number in range(COUNT)
    ]


def submit(client: Client, sources: Sequence[Any]) -> None:
    client.submit_batch(sources, batch_id=ID, chunk_items=CHUNK)


def end(finish: Finish, chunks: int) -> None:
    for number in range(chunks):
        finish(f"{ID}:{number}", texts(number * CHUNK, CHUNK))


def changed(number: int, change: dict[str, Any]) -> list[dict[str, Any]]:
    sources = items()
    sources[number] |= change
    return sources


CHANGES: Final[list[list[dict[str, Any]]]] = [
    *[changed(number, {"question": "how much?"}) for number in range(COUNT)],
    changed(1, {"image": "https://images.example.com/other.jpg"}),
    changed(1, {"custom_id": "other"}),
    changed(1, {"task": "chat", "history": [{"question": "one?", "answer": "two"}]}),
    changed(1, {"image": b"bytes"}),
    changed(1, {"colour": "invalid"}),
    [items()[1], items()[0], *items()[2:]],
    items()[::-1],
    [*items(), items()[0]],
    items()[:-1],
]


@pytest.mark.parametrize("ended", range(COUNT // CHUNK + 1))
def test_other_items_under_the_id_of_a_batch_are_rejected(
    client: Client, finish: Finish, ended: int
) -> None:
    submit(client, items())
    end(finish, ended)
    before = client.batch(ID).progress()
    for sources in CHANGES:
        with pytest.raises(IdTaken, match=ID):
            submit(client, sources)
    now = client.batch(ID).progress()
    assert (now.total, now.done, now.submitted) == (before.total, before.done, True)
    # The same items are the same batch, with its results.
    submit(client, items())
    end(finish, COUNT // CHUNK)
    results = client.batch(ID).results(timeout=1)
    assert [result.text for result in results] == [str(number) for number in range(COUNT)]


def test_the_order_of_fields_does_not_matter(client: Client, finish: Finish) -> None:
    submit(client, items())
    end(finish, 1)
    submit(client, [dict(reversed(item.items())) for item in items()])


def submit_interrupted(client: Client, sources: Sequence[Any]) -> None:
    """Submit items, and interrupt the submission before its end."""

    def interrupt(total: int) -> None:
        raise OSError("the line is dead")

    with pytest.raises(OSError, match="dead"):
        client.submit_batch(sources, batch_id=ID, chunk_items=CHUNK, on_submitted=interrupt)


@pytest.mark.parametrize("ended", [0, 1, 2])
def test_a_submission_resumes_with_the_items_that_were_submitted_before(
    client: Client, finish: Finish, ended: int
) -> None:
    submit_interrupted(client, items()[: 2 * CHUNK])
    end(finish, ended)
    for number in range(2 * CHUNK):
        with pytest.raises(IdTaken):
            submit(client, changed(number, {"question": "how much?"}))
    assert client.batch(ID).progress().total == 2 * CHUNK
    submit(client, items())
    assert client.batch(ID).progress().total == COUNT


def test_a_retry_changes_nothing_about_the_items(client: Client, finish: Finish) -> None:
    submit(client, items())
    failed = {"error": {"code": "internal", "message": "x"}}
    finish(f"{ID}:0", [failed, {"text": "1"}])
    assert client.batch(ID).retry_failed() == 1
    submit(client, items())
    with pytest.raises(IdTaken):
        submit(client, changed(0, {"question": "how much?"}))


def test_a_file_with_other_bytes_is_another_item(
    client: Client, finish: Finish, connection: redis.Redis, tmp_path: Path
) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"one")
    submit(client, [path, path])
    end(finish, 1)
    connection.delete(*connection.keys("blipline:blob:*"))
    submit(client, [path, path])
    path.write_bytes(b"two")
    with pytest.raises(IdTaken):
        submit(client, [path, path])
    assert not connection.keys("blipline:blob:*")


def test_a_batch_without_digests_is_compared_as_before(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    # Given a batch of an older producer, whose first chunk has ended
    submit(client, items())
    connection.delete(KEYS.digests(ID))
    end(finish, 1)
    submit(client, changed(0, {"question": "how much?"}))
    with pytest.raises(IdTaken):
        submit(client, changed(COUNT - 1, {"question": "how much?"}))
    submit(client, items())


def test_the_digests_of_chunks_that_a_newer_producer_adds_are_compared(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    submit_interrupted(client, items()[:CHUNK])
    connection.delete(KEYS.digests(ID))
    submit(client, items())
    end(finish, 3)
    submit(client, items())
    with pytest.raises(IdTaken, match="chunk 2"):
        submit(client, changed(COUNT - 1, {"question": "how much?"}))


def test_digests_live_as_long_as_their_batch(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    submit(client, items())
    assert connection.ttl(KEYS.digests(ID)) > RESULT_TTL_S
    end(finish, 3)
    assert connection.ttl(KEYS.digests(ID)) == connection.ttl(KEYS.batch(ID)) > RESULT_TTL_S
    client.batch(ID).delete()
    assert not connection.exists(KEYS.digests(ID))


def test_a_new_batch_ignores_digests_that_an_older_client_did_not_delete(
    client: Client, connection: redis.Redis
) -> None:
    connection.set(KEYS.digests(ID), "0" * 160)
    submit(client, items())
    submit(client, items())
