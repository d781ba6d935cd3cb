"""Client.submit: ids chosen by the caller, notes, submitters and uploads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import redis

from producer import Client, IdTaken, InvalidInput, State
from producer.contract import Queue
from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from producer.ledger.ledger import Ledger

URL = "https://images.example.com/cat.jpg"
Finish = Callable[[str, Sequence[Mapping[str, Any]]], None]


@pytest.fixture
def ledger(connection: redis.Redis) -> Ledger:
    return Ledger(connection)


def test_any_task_is_submitted_by_its_name(client: Client, ledger: Ledger) -> None:
    job = client.submit({"image": URL, "question": "how many?"}, "vqa", max_new_tokens=5)
    (row,) = ledger.records([job.id])
    assert row is not None
    assert '"task":"vqa"' in row.payload
    assert '"max_new_tokens":5' in row.payload


def test_the_same_request_under_the_same_id_is_one_job(client: Client) -> None:
    for _ in range(2):
        client.submit({"image": URL}, job_id="mine", deadline_s=60)
    assert client.depth().items[Queue.INTERACTIVE] == 1


@pytest.mark.parametrize(
    ("item", "task", "options"),
    [
        ({"image": "https://images.example.com/dog.jpg"}, "caption", {}),
        ({"image": URL, "question": "how many?"}, "vqa", {}),
        ({"image": URL}, "caption", {"max_new_tokens": 5}),
    ],
)
@pytest.mark.parametrize("ended", [False, True])
def test_another_request_under_the_same_id_is_rejected(
    client: Client,
    finish: Finish,
    ended: bool,
    item: dict[str, str],
    task: str,
    options: dict[str, Any],
) -> None:
    client.submit({"image": URL}, job_id="mine")
    if ended:
        finish("mine", [{"text": "a cat"}])
    with pytest.raises(IdTaken, match="mine"):
        client.submit(item, task, job_id="mine", **options)
    # The same request is the same job, with its result, also after its end.
    assert client.submit({"image": URL}, job_id="mine").look()[0] is (
        State.DONE if ended else State.QUEUED
    )


def test_the_same_bytes_are_the_same_request(client: Client) -> None:
    for _ in range(2):
        client.submit(b"the same bytes", job_id="mine")
    with pytest.raises(IdTaken):
        client.submit(b"other bytes", job_id="mine")


@pytest.mark.parametrize("job_id", ["", "a b", "photos:3", "x" * 129, "ä", 7])
def test_an_invalid_job_id_is_rejected(client: Client, job_id: Any) -> None:
    with pytest.raises(InvalidInput, match="job_id"):
        client.submit({"image": URL}, job_id=job_id)


def test_an_invalid_item_is_rejected_with_the_reason(client: Client) -> None:
    with pytest.raises(InvalidInput, match="colour: no such name"):
        client.submit({"image": URL, "colour": "red"})
    with pytest.raises(InvalidInput, match="no-such-file"):
        client.submit({"image": "no-such-file.jpg"})


def test_a_note_is_kept_while_the_job_is_open_and_for_a_week_after(
    client: Client, connection: redis.Redis, finish: Finish
) -> None:
    job = client.submit({"image": URL}, note="for later")
    assert connection.ttl(Keys().metadata(job.id)) == -1
    finish(job.id, [{"text": "a cat"}])
    assert job.note() == "for later"
    assert 6 * 24 * 3600 < connection.ttl(Keys().metadata(job.id)) <= 7 * 24 * 3600
    assert client.caption(URL).note() is None


def test_a_batch_keeps_its_note_and_its_task(client: Client) -> None:
    progress = client.submit_batch([{"image": URL}], "caption", note="mine").progress()
    assert (progress.note, progress.task.short) == ("mine", "caption")


def test_each_call_may_name_a_submitter(client: Client, ledger: Ledger) -> None:
    job = client.submit({"image": URL}, submitter="acme")
    batch = client.submit_batch([URL], batch_id="photos", submitter="acme")
    rows = ledger.records([job.id, f"{batch.id}:0"])
    assert [row.submitter for row in rows if row is not None] == ["acme", "acme"]


def test_an_upload_comes_before_its_job(client: Client, connection: redis.Redis) -> None:
    reference = client.upload(b"some bytes")
    assert connection.get(Keys().blob(reference)) == b"some bytes"
    assert client.upload(reference) == reference
    assert client.submit({"image": reference}).status() is State.QUEUED


def test_depth_counts_open_items_running_jobs_and_bytes(
    client: Client, connection: redis.Redis
) -> None:
    job = client.caption(b"four")
    client.submit_batch([URL] * 40)
    Leases(connection).claim(job.id)
    depth = client.depth()
    assert depth.items == {Queue.INTERACTIVE: 1, Queue.BULK: 40}
    assert (depth.running_jobs, depth.blob_bytes) == (1, 4)
