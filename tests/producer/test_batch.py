from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from producer import (
    Client,
    ClientSettings,
    ErrorCode,
    InvalidInput,
    JobUnknown,
    Match,
    Queue,
    QueueFull,
    State,
    WaitTimeout,
    contract,
)
from producer.batch import Page
from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger

KEYS = Keys()
Finish = Callable[[str, Sequence[Mapping[str, Any]]], None]


def urls(count: int) -> Iterator[str]:
    return (f"https://images.example.com/{number}.jpg" for number in range(count))


def texts(first: int, count: int) -> list[dict[str, Any]]:
    return [{"text": str(first + offset)} for offset in range(count)]


def test_a_batch_is_cut_into_chunks_of_the_size_asked_for(
    client: Client, connection: redis.Redis
) -> None:
    client.submit_batch(urls(10), chunk_items=4)
    assert connection.llen("bulk") == 3
    assert connection.zcard(KEYS.open) == 3


def test_progress_counts_items_also_in_a_short_last_chunk(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(10), chunk_items=4)
    assert batch.progress().state is State.QUEUED
    finish(f"{batch.id}:2", texts(8, 2))
    progress = batch.progress()
    assert (progress.total, progress.done, progress.state) == (10, 2, State.RUNNING)
    finish(f"{batch.id}:0", texts(0, 4))
    finish(f"{batch.id}:1", texts(4, 4))
    progress = batch.progress()
    assert (progress.done, progress.failed, progress.state) == (10, 0, State.DONE)


def test_a_chunk_that_is_delivered_twice_counts_once(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(4), chunk_items=2)
    failed = [contract.failure("internal", "x"), {"text": "y"}]
    finish(f"{batch.id}:0", failed)
    finish(f"{batch.id}:0", failed)
    progress = batch.progress()
    assert (progress.done, progress.failed) == (2, 1)


def test_a_second_delivery_that_failed_changes_no_count(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(2))
    finish(f"{batch.id}:0", texts(0, 2))
    finish(f"{batch.id}:0", [contract.failure("deadline_exceeded", "late")] * 2)
    assert (batch.progress().failed, batch.progress().state) == (0, State.DONE)


def test_a_batch_submitted_again_under_its_id_goes_on_and_nothing_is_there_twice(
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
    # When another submits all of it
    batch = client.submit_batch(urls(10), batch_id="nightly", chunk_items=2)
    # Then each chunk is there once
    assert connection.zcard(KEYS.open) == 4
    assert (
        connection.llen("bulk") + connection.llen(KEYS.submitter_queue(Queue.BULK, "nightly")) == 5
    )
    for number in range(1, 5):
        finish(f"nightly:{number}", texts(2 * number, 2))
    assert [result.text for result in batch.results(timeout=1)] == [str(n) for n in range(10)]
    # And again, when all is done, nothing runs again
    assert client.submit_batch(urls(10), batch_id="nightly", chunk_items=2).progress().finished
    assert not connection.exists(KEYS.open)


@pytest.mark.parametrize(
    ("count", "how", "about"),
    [
        (3, {"task": "embed"}, "with task blipline.caption and not blipline.embed"),
        (3, {"chunk_items": 7}, "with chunk_items 2 and not 7"),
        (3, {"max_new_tokens": 3}, "with options"),
        (2, {}, "3 items were submitted before, and only 2 now"),
        (5, {}, "chunk 1 was submitted before with other items"),
    ],
)
def test_another_batch_under_the_id_of_one_is_refused(
    client: Client, count: int, how: dict[str, Any], about: str
) -> None:
    client.submit_batch(urls(3), batch_id="nightly", chunk_items=2)
    with pytest.raises(InvalidInput, match=about):
        client.submit_batch(urls(count), batch_id="nightly", **{"chunk_items": 2, **how})
    assert client.batch("nightly").progress().total == 3


def test_a_deadline_is_that_of_the_first_submission(
    client: Client, connection: redis.Redis
) -> None:
    for _ in range(2):
        client.submit_batch(urls(1), batch_id="nightly", deadline_s=100)
    assert len(rows(connection, "nightly:0")) == 1


def rows(connection: redis.Redis, *ids: str) -> list[Any]:
    """What is asked by jobs of the ledger."""
    return [json.loads(row.payload) for row in Ledger(connection).records(ids) if row is not None]


def test_a_submission_cut_short_leaves_a_batch_that_ends(client: Client, finish: Finish) -> None:
    def broken() -> Iterator[str]:
        yield from urls(4)
        raise OSError("the cursor is gone")

    with pytest.raises(OSError, match="the cursor is gone"):
        client.submit_batch(broken(), chunk_items=2, batch_id="short")
    batch = client.batch("short")
    total = batch.progress().total
    for number in range(total // 2):
        finish(f"short:{number}", texts(2 * number, 2))
    assert len(list(batch.results(timeout=1))) == total
    assert batch.progress().finished


def test_a_full_redis_takes_no_new_work_and_the_results_of_what_it_has(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(2))
    connection.config_set("maxmemory", 1)
    try:
        with pytest.raises(QueueFull, match="maxmemory"):
            client.submit_batch(urls(2), when_full="raise")
        finish(f"{batch.id}:0", texts(0, 2))
        assert [result.text for result in batch.results(timeout=5)] == ["0", "1"]
        assert batch.progress().finished
    finally:
        connection.config_set("maxmemory", 0)


def test_a_redis_that_is_nearly_full_takes_no_new_work(
    client: Client, connection: redis.Redis
) -> None:
    used = connection.info("memory")["used_memory"]
    connection.config_set("maxmemory", int(used * 1.05))
    try:
        with pytest.raises(QueueFull, match=r"Redis holds .* of .* MiB \(its `maxmemory`\)"):
            client.caption("https://images.example.com/0.jpg")
    finally:
        connection.config_set("maxmemory", 0)
    assert not connection.exists(KEYS.open)


def test_a_batch_waits_for_a_redis_that_is_full(client: Client, connection: redis.Redis) -> None:
    connection.config_set("maxmemory", 1)
    try:
        with ThreadPoolExecutor(1) as pool:
            submitting = pool.submit(client.submit_batch, urls(2))
            with pytest.raises(TimeoutError):
                submitting.result(0.3)
            connection.config_set("maxmemory", 0)
            assert submitting.result(20).progress().total == 2
    finally:
        connection.config_set("maxmemory", 0)


def test_a_result_waits_for_a_redis_that_refuses_to_write(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    job = client.caption("https://images.example.com/0.jpg")
    connection.replicaof("127.0.0.1", "1")  # as a failover leaves the old master
    storing = threading.Thread(target=finish, args=(job.id, texts(0, 1)))
    try:
        storing.start()
        storing.join(0.5)
        assert storing.is_alive(), "given up, on a Redis that was a replica for a moment"
    finally:
        connection.replicaof("NO", "ONE")
    storing.join(20)
    assert job.result(timeout=5) == "0"


def test_results_come_in_the_order_of_submission(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(5), chunk_items=2)
    for number in (2, 0, 1):
        finish(f"{batch.id}:{number}", texts(2 * number, 1 if number == 2 else 2))
    results = list(client.batch(batch.id).results(timeout=1))
    assert [result.text for result in results] == ["0", "1", "2", "3", "4"]
    assert [result.index for result in results] == [0, 1, 2, 3, 4]


def test_results_stream_what_is_there_before_they_wait(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(4), chunk_items=2)
    finish(f"{batch.id}:0", texts(0, 2))
    results = batch.results(timeout=0.1)
    assert [next(results).text, next(results).text] == ["0", "1"]
    with pytest.raises(WaitTimeout, match=r"2 of 4 items are done"):
        next(results)


def test_an_unusable_item_keeps_its_place_and_spares_its_neighbours(
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


def test_a_custom_id_has_a_bound(client: Client, connection: redis.Redis) -> None:
    items = [{"image": "https://x/1.jpg", "custom_id": "n" * length} for length in (512, 513)]
    client.submit_batch(items, batch_id="ids")
    (asked,) = rows(connection, "ids:0")
    fine, long = asked["items"]
    assert fine["custom_id"] == long["custom_id"] == "n" * 512
    assert long["error"]["code"] == "option_invalid"
    assert "has 513 characters; it may have 512" in long["error"]["message"]


def test_results_hold_matches_and_vectors(client: Client, finish: Finish) -> None:
    items = [{"image": "https://x/1.jpg", "texts": ["a cat"]}, {"task": "embed", "text": "a cat"}]
    batch = client.submit_batch(items, "match")
    match = {"text": "a cat", "probability": 0.9, "cosine": 0.4}
    finish(f"{batch.id}:0", [{"text": "a cat", "matches": [match]}, {"embedding": [1.0]}])
    first, second = batch.results(timeout=1)
    assert (first.text, first.matches, second.embedding) == ("a cat", [Match(**match)], [1.0])
    assert first.to_json() == {
        "custom_id": None,
        "status": "ok",
        "text": "a cat",
        "matches": [match],
    }
    assert second.to_json() == {"custom_id": None, "status": "ok", "embedding": [1.0]}


def test_a_cancelled_batch_ends_the_wait_for_its_results(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(4), chunk_items=2)
    finish(f"{batch.id}:0", texts(0, 2))
    batch.cancel()
    results = list(batch.results(timeout=5))
    assert [result.ok for result in results] == [True, True, False, False]
    assert results[3].error is not None
    assert results[3].error.code is ErrorCode.CANCELLED
    assert batch.progress().state is State.CANCELLED


def test_results_that_are_no_longer_kept_say_so(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(2))
    finish(f"{batch.id}:0", texts(0, 2))
    connection.delete(KEYS.result(f"{batch.id}:0"))
    results = list(batch.results(timeout=5))
    assert all("no longer kept" in str(result.error) for result in results)


def test_results_go_on_from_a_cursor_in_any_process(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(5), chunk_items=2)
    for number in (2, 0, 1):
        finish(f"{batch.id}:{number}", texts(2 * number, 1 if number == 2 else 2))
    for as_completed, order in ((False, "01234"), (True, "40123")):
        whole = list(batch.results(timeout=1, as_completed=as_completed))
        assert "".join(result.text or "" for result in whole) == order
        for place, result in enumerate(whole):
            rest = batch.results(timeout=1, cursor=result.cursor, as_completed=as_completed)
            assert [one.index for one in rest] == [one.index for one in whole[place + 1 :]]
    with pytest.raises(InvalidInput, match="cursor=-1"):
        next(batch.results(cursor=-1))


def test_results_as_completed_wait_for_nobody(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(4), chunk_items=2)
    finish(f"{batch.id}:1", texts(2, 2))
    results = batch.results(timeout=0.1, as_completed=True)
    assert [next(results).index, next(results).index] == [2, 3]
    with pytest.raises(WaitTimeout, match=r"2 of 4 items are done"):
        next(results)


def test_progress_tells_how_fast_it_goes_and_how_long_it_takes(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(40), chunk_items=2)
    assert (batch.progress().rate, batch.progress().left_s) == (None, None)
    finish(f"{batch.id}:0", texts(0, 2))
    # Given that the first chunk ended twenty seconds ago
    record = KEYS.batch(batch.id)
    ago = float(connection.hget(record, "mark_at") or 0) - 20
    connection.hset(record, mapping={"mark_at": ago, "before_at": ago})
    for number in range(1, 11):
        finish(f"{batch.id}:{number}", texts(2 * number, 2))
    progress = batch.progress()
    assert progress.rate == pytest.approx(1.0, rel=0.1)
    assert progress.left_s == pytest.approx(18, rel=0.1)


def test_a_cancelled_batch_goes_on_when_it_is_retried(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(4), chunk_items=2)
    batch.cancel()
    finish(f"{batch.id}:0", [contract.failure("cancelled", "x")] * 2)
    assert batch.retry_failed() == 2
    assert batch.progress().state is State.QUEUED
    for number in range(2):
        finish(f"{batch.id}:{number}", texts(2 * number, 2))
    assert [result.text for result in batch.results(timeout=1)] == ["0", "1", "2", "3"]


def test_only_what_failed_is_asked_again(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(6), chunk_items=2)
    failed = contract.failure("image_unreachable", "503")
    finish(f"{batch.id}:0", texts(0, 2))
    finish(f"{batch.id}:1", [{"text": "2"}, failed])
    finish(f"{batch.id}:2", [failed, failed])
    assert batch.retry_failed() == 3
    assert batch.retry_failed() == 0, "they are being asked already"
    assert connection.zcard(KEYS.open) == 2
    finish(f"{batch.id}:1", [{"text": "2"}, {"text": "3"}])
    finish(f"{batch.id}:2", [failed, {"text": "5"}])
    assert (batch.progress().done, batch.progress().failed) == (6, 1)
    assert [result.text for result in batch.results(timeout=1)] == ["0", "1", "2", "3", None, "5"]


def test_a_deleted_batch_leaves_nothing_but_a_mark_that_it_is_gone(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(80), chunk_items=2)
    finish(f"{batch.id}:0", [contract.failure("internal", "x")] * 2)
    batch.delete()
    with pytest.raises(JobUnknown):
        batch.progress()
    connection.delete("bulk")  # what a worker would have taken, and dropped
    assert connection.keys("*") == [KEYS.cancelled(batch.id).encode()]
    assert client.submit_batch(urls(2), batch_id=batch.id).progress().total == 2


def test_a_batch_whose_producer_died_can_be_closed(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(2))
    connection.hset(KEYS.batch(batch.id), "submitted", 0)  # it died before it could say so
    finish(f"{batch.id}:0", texts(0, 2))
    with pytest.raises(WaitTimeout, match="submit the same items under this id again, or close"):
        list(batch.results(timeout=0.1))
    batch.close()
    assert len(list(batch.results(timeout=1))) == 2


def test_results_are_kept_for_as_long_as_the_batch_says(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(1), keep_s=100)
    finish(f"{batch.id}:0", texts(0, 1))
    assert 0 < connection.ttl(KEYS.result(f"{batch.id}:0")) <= 100
    assert 0 < connection.ttl(KEYS.batch(batch.id)) <= 100 + contract.TOMBSTONE_S


def test_an_empty_batch_is_finished_at_once(client: Client) -> None:
    batch = client.submit_batch([])
    assert batch.progress().state is State.DONE
    assert list(batch.results(timeout=1)) == []


def test_an_unknown_batch_is_an_error_everywhere(client: Client) -> None:
    stranger = client.batch("nobody")
    for call in (
        stranger.progress,
        stranger.cancel,
        stranger.retry_failed,
        stranger.close,
        stranger.delete,
        lambda: next(stranger.results()),
        lambda: next(stranger.results(as_completed=True)),
    ):
        with pytest.raises(JobUnknown, match="nobody"):
            call()


@pytest.mark.parametrize(
    "arguments",
    [{"task": "segment"}, {"chunk_items": 0}, {"top_p": 2}, {"keep_s": 0}, {"when_full": "x"}],
)
def test_a_wrong_call_is_refused_before_anything_is_submitted(
    client: Client, connection: redis.Redis, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        client.submit_batch(urls(1), **arguments)
    assert not connection.keys("*")


def test_nothing_that_a_batch_leaves_in_redis_stays_for_ever(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(3), chunk_items=2)
    finish(f"{batch.id}:0", [contract.failure("internal", "x"), {"text": "y"}])
    finish(f"{batch.id}:1", texts(2, 1))
    batch.cancel()
    connection.delete("bulk")  # what a worker would have taken
    lasting = [key for key in connection.keys("*") if connection.ttl(key) == -1]
    assert [key for key in lasting if not key.startswith(b"_kombu.binding")] == []


def test_a_batch_deleted_while_it_is_submitted_is_gone(
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


def test_a_refused_chunk_leaves_no_hole(redis_url: str, finish: Finish) -> None:
    settings = ClientSettings(redis_url=redis_url, max_queued_bulk=90)
    with Client(settings=settings) as client:
        with pytest.raises(QueueFull):
            client.submit_batch(urls(100), batch_id="b", when_full="raise")
        batch = client.batch("b")
        assert batch.progress().total == 64
        for number in range(2):
            finish(f"b:{number}", texts(32 * number, 32))
        assert len(list(batch.results(timeout=1))) == 64
        client.submit_batch(urls(100), batch_id="b")
        for number, count in ((2, 32), (3, 4)):
            finish(f"b:{number}", texts(32 * number, count))
        assert [one.text for one in batch.results(timeout=1)] == [str(n) for n in range(100)]


def test_more_items_under_the_id_of_an_ended_batch_are_refused(
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


def test_images_of_what_is_done_are_not_uploaded_again(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    images = [bytes([n]) * 100 for n in range(1, 5)]
    client.submit_batch(images, batch_id="b", chunk_items=2)
    finish("b:0", texts(0, 2))
    finish("b:1", texts(2, 2))
    connection.delete(*connection.keys("blipline:blob:*"))
    assert client.submit_batch(images, batch_id="b", chunk_items=2).progress().finished
    assert not connection.keys("blipline:blob:*")


def test_refused_jobs_upload_nothing(redis_url: str, connection: redis.Redis) -> None:
    settings = ClientSettings(redis_url=redis_url, max_queued_interactive=1)
    with Client(settings=settings) as client:
        client.caption("https://images.example.com/0.jpg")
        with pytest.raises(QueueFull):
            client.caption(b"image")
    assert not connection.keys("blipline:blob:*")


def test_a_chunk_that_is_asked_again_is_waited_for_in_either_order(
    client: Client, finish: Finish
) -> None:
    batch = client.submit_batch(urls(4), chunk_items=2)
    finish(f"{batch.id}:0", [contract.failure("internal", "x"), {"text": "1"}])
    finish(f"{batch.id}:1", texts(2, 2))
    assert batch.retry_failed() == 1
    results = batch.results(timeout=0.1, as_completed=True)
    assert [next(results).index, next(results).index] == [2, 3]
    with pytest.raises(WaitTimeout):
        next(results)
    finish(f"{batch.id}:0", texts(0, 2))
    whole = list(batch.results(timeout=1, as_completed=True))
    # The place of its first end holds it as well, as it is now.
    assert [result.text for result in whole] == ["0", "1", "2", "3", "0", "1"]


class Odd:
    """What a program may take for an image."""

    def __bool__(self) -> bool:
        raise ValueError("the truth value is ambiguous")

    def save(self) -> None: ...


@pytest.mark.parametrize("odd", [Odd(), set(), 0.5, object()])
def test_an_odd_image_fails_its_own_item_alone(
    client: Client, connection: redis.Redis, odd: Any
) -> None:
    client.submit_batch([odd, "https://images.example.com/1.jpg"], batch_id="b")
    (asked,) = rows(connection, "b:0")
    assert asked["items"][0]["error"]["code"] == "image_invalid"
    assert "error" not in asked["items"][1]


def test_what_the_callback_raises_while_there_is_no_room_is_the_callers(
    client: Client, connection: redis.Redis
) -> None:
    def gone(total: int) -> None:
        raise BrokenPipeError("nobody reads the progress")

    connection.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokenPipeError):
            client.submit_batch(urls(2), on_submitted=gone)
    finally:
        connection.config_set("maxmemory", 0)


def test_a_page_has_what_is_there_now_and_never_waits(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(7), chunk_items=3)
    assert batch.page() == batch.page(as_completed=True) == Page([], 0)
    for number in (2, 0, 1):
        finish(f"{batch.id}:{number}", texts(number * 3, min(3, 7 - number * 3)))
    for as_completed, order in ((False, [*range(7)]), (True, [6, *range(6)])):
        for most in (1, 2, 3, 100):
            seen, cursor, over = [], 0, False
            while not over:
                page = batch.page(cursor, as_completed=as_completed, most=most)
                assert len(page.results) <= most
                assert bool(page.results) is not page.over
                seen += [result.index for result in page.results]
                cursor, over = page.cursor, page.over
            assert seen == order


@pytest.mark.parametrize("as_completed", [False, True])
def test_after_the_last_result_there_is_nothing_to_wait_for(
    client: Client, finish: Finish, as_completed: bool
) -> None:
    batch = client.submit_batch(urls(5))
    finish(f"{batch.id}:0", texts(0, 5))
    last = list(batch.results(0, as_completed=as_completed))[-1]
    assert list(batch.results(0, cursor=last.cursor, as_completed=as_completed)) == []


def test_a_handle_outlives_its_batch(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(7), batch_id="twice", chunk_items=3)
    finish("twice:0", texts(0, 3))
    assert len(batch.page().results) == 3
    batch.delete()
    client.submit_batch(urls(7), batch_id="twice", chunk_items=2)
    finish("twice:0", texts(0, 2))
    finish("twice:1", texts(2, 2))
    assert [result.index for result in batch.page(1).results] == [1, 2, 3]


def test_while_there_is_no_room_the_callback_hears_of_every_chunk(
    redis_url: str, finish: Finish
) -> None:
    settings = ClientSettings(redis_url=redis_url, max_queued_bulk=4)
    heard: list[int] = []

    def hear(total: int) -> None:
        if total not in heard:
            heard.append(total)
            # Room for one more chunk: the group of all of them is not in yet.
            finish(f"slow:{len(heard) - 1}", texts(0, 2))

    with Client(settings=settings) as client:
        client.submit_batch(urls(12), batch_id="slow", chunk_items=2, on_submitted=hear)
    assert heard == [4, 6, 8, 10, 12]
