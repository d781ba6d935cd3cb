"""The submission of a batch: chunks, invalid items, and a batch that is submitted twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from producer import (
    Client,
    InvalidInput,
    JobUnknown,
    Queue,
)
from producer.ledger.keys import Keys
from tests.batch_items import Finish, payloads, texts, urls

KEYS = Keys()


def test_a_batch_is_cut_into_chunks_of_the_requested_size(
    client: Client, connection: redis.Redis
) -> None:
    client.submit_batch(urls(10), chunk_items=4)
    assert connection.llen("bulk") == 3
    assert connection.zcard(KEYS.open) == 3


def test_a_batch_submitted_again_under_its_id_resumes_without_duplicates(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    # Given a producer that died after two chunks of five, the first of which is done
    def dies() -> Iterator[str]:
        for url in urls(6):
            time.sleep(0.02)  # longer than a chunk waits for others
            yield url
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.submit_batch(dies(), batch_id="nightly", chunk_items=2)
    finish("nightly:0", texts(0, 2))
    entered = client.batch("nightly").progress().total
    assert 0 < entered < 10
    # When another producer submits all of it
    batch = client.submit_batch(urls(10), batch_id="nightly", chunk_items=2)
    # Then each chunk exists once
    assert connection.zcard(KEYS.open) == 4
    assert (
        connection.llen("bulk") + connection.llen(KEYS.submitter_queue(Queue.BULK, "nightly")) == 4
    )
    for number in range(1, 5):
        finish(f"nightly:{number}", texts(2 * number, 2))
    assert [result.text for result in batch.results(timeout=1)] == [str(n) for n in range(10)]
    # And once all of it is done, a further submission runs nothing
    assert client.submit_batch(urls(10), batch_id="nightly", chunk_items=2).progress().finished
    assert not connection.exists(KEYS.open)


@pytest.mark.parametrize(
    ("count", "how", "message"),
    [
        (3, {"task": "embed"}, "with task blipline.caption and not blipline.embed"),
        (3, {"chunk_items": 7}, "with chunk_items 2 and not 7"),
        (3, {"max_new_tokens": 3}, "with options"),
        (2, {}, "3 items were submitted before, and only 2 now"),
        (5, {}, "chunk 1 was submitted before with other items"),
    ],
)
def test_a_different_batch_under_the_same_id_is_rejected(
    client: Client, count: int, how: dict[str, Any], message: str
) -> None:
    client.submit_batch(urls(3), batch_id="nightly", chunk_items=2)
    with pytest.raises(InvalidInput, match=message):
        client.submit_batch(urls(count), batch_id="nightly", **{"chunk_items": 2, **how})
    assert client.batch("nightly").progress().total == 3


def test_a_resumed_batch_keeps_its_first_deadline(client: Client, connection: redis.Redis) -> None:
    for _ in range(2):
        client.submit_batch(urls(1), batch_id="nightly", deadline_s=100)
    assert len(payloads(connection, "nightly:0")) == 1


def test_an_interrupted_submission_leaves_a_batch_that_ends(client: Client, finish: Finish) -> None:
    def broken() -> Iterator[str]:
        for url in urls(4):
            time.sleep(0.02)  # longer than a chunk waits for others
            yield url
        raise OSError("the cursor is gone")

    with pytest.raises(OSError, match="the cursor is gone"):
        client.submit_batch(broken(), chunk_items=2, batch_id="short")
    batch = client.batch("short")
    total = batch.progress().total
    assert total
    for number in range(total // 2):
        finish(f"short:{number}", texts(2 * number, 2))
    assert len(list(batch.results(timeout=1))) == total
    assert batch.progress().finished


def test_an_invalid_item_keeps_its_index_and_spares_its_neighbours(
    client: Client, connection: redis.Redis, tmp_path: Path
) -> None:
    seen: list[int] = []
    items: list[Any] = [
        "https://images.example.com/0.jpg",
        {"image": tmp_path / "missing.png", "custom_id": "b"},
        {"image": "https://images.example.com/2.jpg", "custom_id": 7},
        {"image": 42},
        {"image": "https://images.example.com/4.jpg", "texts": {"a cat", "a dog"}},
        {"image": "https://images.example.com/5.jpg", "history": [("one?", b"two")]},
        {"image": "https://images.example.com/6.jpg", "error": object()},
    ]
    batch = client.submit_batch(items, on_submitted=seen.append)
    assert seen == [7]
    assert batch.progress().total == 7
    assert connection.llen("bulk") == 1


def test_a_custom_id_has_a_maximum_length(client: Client, connection: redis.Redis) -> None:
    items = [{"image": "https://x/1.jpg", "custom_id": "n" * length} for length in (512, 513)]
    client.submit_batch(items, batch_id="ids")
    (payload,) = payloads(connection, "ids:0")
    fine, long = payload["items"]
    assert fine["custom_id"] == long["custom_id"] == "n" * 512
    assert long["error"]["code"] == "option_invalid"
    assert "has 513 characters; the limit is 512" in long["error"]["message"]


@pytest.mark.parametrize(
    "arguments",
    [{"task": "segment"}, {"chunk_items": 0}, {"top_p": 2}, {"keep_s": 0}, {"when_full": "x"}],
)
def test_an_invalid_argument_is_rejected_before_anything_is_submitted(
    client: Client, connection: redis.Redis, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        client.submit_batch(urls(1), **arguments)
    assert not connection.keys("*")


def test_a_batch_deleted_during_its_submission_stays_deleted(
    client: Client, connection: redis.Redis
) -> None:
    def items() -> Iterator[str]:
        for number, url in enumerate(urls(8)):
            time.sleep(0.02)
            if number == 6:
                client.batch("b").delete()
            yield url

    with pytest.raises(JobUnknown, match="deleted"):
        client.submit_batch(items(), batch_id="b", chunk_items=2)
    assert not connection.exists(KEYS.batch("b"))
    with pytest.raises(JobUnknown):
        client.batch("b").progress()
    assert client.submit_batch(urls(2), batch_id="b").progress().total == 2


def test_other_items_under_the_id_of_an_ended_batch_are_rejected(
    client: Client, finish: Finish
) -> None:
    batch = client.submit_batch(urls(3), batch_id="b", chunk_items=2)
    for number in range(2):
        finish(f"b:{number}", texts(2 * number, 2 - number))
    for count in (4, 5, 2):
        with pytest.raises(InvalidInput):
            client.submit_batch(urls(count), batch_id="b", chunk_items=2)
        assert batch.progress().finished
    assert client.submit_batch(urls(3), batch_id="b", chunk_items=2).progress().finished


def test_images_of_finished_chunks_are_not_uploaded_again(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    images = [bytes([n]) * 100 for n in range(1, 5)]
    client.submit_batch(images, batch_id="b", chunk_items=2)
    finish("b:0", texts(0, 2))
    finish("b:1", texts(2, 2))
    connection.delete(*connection.keys("blipline:blob:*"))
    assert client.submit_batch(images, batch_id="b", chunk_items=2).progress().finished
    assert not connection.keys("blipline:blob:*")


class Odd:
    """An object that a program may pass as an image."""

    def __bool__(self) -> bool:
        raise ValueError("the truth value is ambiguous")

    def save(self) -> None: ...


@pytest.mark.parametrize("odd", [Odd(), set(), 0.5, object()])
def test_an_odd_image_fails_its_own_item_alone(
    client: Client, connection: redis.Redis, odd: Any
) -> None:
    client.submit_batch([odd, "https://images.example.com/1.jpg"], batch_id="b")
    (payload,) = payloads(connection, "b:0")
    assert payload["items"][0]["error"]["code"] == "image_invalid"
    assert "error" not in payload["items"][1]
