"""Batch: progress, results, pages, retry, deletion."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from producer import (
    Client,
    ErrorCode,
    InvalidInput,
    JobUnknown,
    Match,
    State,
    WaitTimeout,
    contract,
)
from producer.batch import Page
from producer.ledger.keys import Keys
from tests.batch_items import Finish, texts, urls

KEYS = Keys()


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


def test_a_failed_second_delivery_changes_no_count(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(2))
    finish(f"{batch.id}:0", texts(0, 2))
    finish(f"{batch.id}:0", [contract.failure("deadline_exceeded", "late")] * 2)
    assert (batch.progress().failed, batch.progress().state) == (0, State.DONE)


def test_results_come_in_the_order_of_submission(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(5), chunk_items=2)
    for number in (2, 0, 1):
        finish(f"{batch.id}:{number}", texts(2 * number, 1 if number == 2 else 2))
    results = list(client.batch(batch.id).results(timeout=1))
    assert [result.text for result in results] == ["0", "1", "2", "3", "4"]
    assert [result.index for result in results] == [0, 1, 2, 3, 4]


def test_results_yields_available_results_before_it_waits(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(4), chunk_items=2)
    finish(f"{batch.id}:0", texts(0, 2))
    results = batch.results(timeout=0.1)
    assert [next(results).text, next(results).text] == ["0", "1"]
    with pytest.raises(WaitTimeout, match=r"2 of 4 items are done"):
        next(results)


def test_results_hold_matches_and_vectors(client: Client, finish: Finish) -> None:
    items: list[Any] = [
        {"image": "https://x/1.jpg", "texts": ["a cat"]},
        {"task": "embed", "text": "a cat"},
    ]
    batch = client.submit_batch(items, "match")
    match: Any = {"text": "a cat", "probability": 0.9, "cosine": 0.4}
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


def test_results_that_are_no_longer_kept_are_errors_with_a_message(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(2))
    finish(f"{batch.id}:0", texts(0, 2))
    connection.delete(KEYS.result(f"{batch.id}:0"))
    results = list(batch.results(timeout=5))
    assert all("no longer kept" in str(result.error) for result in results)


def test_results_resume_from_a_cursor_in_any_process(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(5), chunk_items=2)
    for number in (2, 0, 1):
        finish(f"{batch.id}:{number}", texts(2 * number, 1 if number == 2 else 2))
    for as_completed, order in ((False, "01234"), (True, "40123")):
        whole = list(batch.results(timeout=1, as_completed=as_completed))
        assert "".join(result.text or "" for result in whole) == order
        for index, result in enumerate(whole):
            rest = batch.results(timeout=1, cursor=result.cursor, as_completed=as_completed)
            assert [result.index for result in rest] == [
                result.index for result in whole[index + 1 :]
            ]
    with pytest.raises(InvalidInput, match="cursor=-1"):
        next(batch.results(cursor=-1))


def test_results_as_completed_do_not_wait_for_earlier_items(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(4), chunk_items=2)
    finish(f"{batch.id}:1", texts(2, 2))
    results = batch.results(timeout=0.1, as_completed=True)
    assert [next(results).index, next(results).index] == [2, 3]
    with pytest.raises(WaitTimeout, match=r"2 of 4 items are done"):
        next(results)


def test_progress_has_the_rate_and_the_remaining_time(
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


def test_a_cancelled_batch_goes_on_after_a_retry(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(4), chunk_items=2)
    batch.cancel()
    assert batch.retry_failed() == 4
    assert batch.progress().state is State.QUEUED
    for number in range(2):
        finish(f"{batch.id}:{number}", texts(2 * number, 2))
    assert [result.text for result in batch.results(timeout=1)] == ["0", "1", "2", "3"]


def test_only_failed_items_are_retried(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(6), chunk_items=2)
    failed = contract.failure("image_unreachable", "503")
    finish(f"{batch.id}:0", texts(0, 2))
    finish(f"{batch.id}:1", [{"text": "2"}, failed])
    finish(f"{batch.id}:2", [failed, failed])
    assert batch.retry_failed() == 3
    assert batch.retry_failed() == 0, "they are queued already"
    assert connection.zcard(KEYS.open) == 2
    finish(f"{batch.id}:1", [{"text": "2"}, {"text": "3"}])
    finish(f"{batch.id}:2", [failed, {"text": "5"}])
    assert (batch.progress().done, batch.progress().failed) == (6, 1)
    assert [result.text for result in batch.results(timeout=1)] == ["0", "1", "2", "3", None, "5"]


def test_a_deleted_batch_leaves_its_cancellation_mark_alone(
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


def test_results_are_kept_for_keep_s_seconds(
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


def test_every_key_of_a_batch_expires(
    client: Client, finish: Finish, connection: redis.Redis
) -> None:
    batch = client.submit_batch(urls(3), chunk_items=2)
    finish(f"{batch.id}:0", [contract.failure("internal", "x"), {"text": "y"}])
    finish(f"{batch.id}:1", texts(2, 1))
    batch.cancel()
    connection.delete("bulk")  # what a worker would have taken
    keys: Any = connection.keys("*")
    lasting = [key for key in keys if connection.ttl(key) == -1]
    assert [key for key in lasting if not key.startswith(b"_kombu.binding")] == []


def test_a_retried_chunk_is_awaited_in_either_order(client: Client, finish: Finish) -> None:
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
    # The position of its first end has the new result as well.
    assert [result.text for result in whole] == ["0", "1", "2", "3", "0", "1"]


def test_a_page_has_the_available_results_and_never_waits(client: Client, finish: Finish) -> None:
    batch = client.submit_batch(urls(7), chunk_items=3)
    assert batch.page() == batch.page(as_completed=True) == Page([], 0)
    for number in (2, 0, 1):
        finish(f"{batch.id}:{number}", texts(number * 3, min(3, 7 - number * 3)))
    for as_completed, order in ((False, [*range(7)]), (True, [6, *range(6)])):
        for limit in (1, 2, 3, 100):
            seen, cursor, over = [], 0, False
            while not over:
                page = batch.page(cursor, as_completed=as_completed, most=limit)
                assert len(page.results) <= limit
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
