"""Job records and chunk results, as Redis stores them."""

from __future__ import annotations

import json

from producer import Queue
from producer.contract import Task, failure
from producer.ledger.message import task_message
from producer.ledger.records import ChunkResult, JobRecord

SHA = "0" * 64
MESSAGE = task_message("1", Task.VQA, Queue.BULK, "x")


def test_a_record_is_read_as_it_was_written() -> None:
    record = JobRecord("1", "bulk", "nightly", 2, (SHA, "1" * 64), MESSAGE, '{"items":["a\\nb"]}')
    assert JobRecord.decode("1", record.encode()) == record
    assert JobRecord.decode("1", record.encode().encode()) == record


def test_a_record_without_images_is_read_as_it_was_written() -> None:
    record = JobRecord("1", "interactive", "anyone", 1, (), MESSAGE, "{}")
    assert JobRecord.decode("1", record.encode()) == record


def test_each_message_starts_a_generation_of_its_own() -> None:
    first, second = (
        JobRecord("1", "bulk", "anyone", 1, (), task_message("1", Task.VQA, Queue.BULK, "x"), "{}")
        for _ in range(2)
    )
    assert first.generation != second.generation


def test_a_chunk_result_gives_the_result_of_each_item() -> None:
    stored = json.dumps({"status": "SUCCESS", "result": [{"text": "a"}], "task_id": "1"})
    result = ChunkResult.decode(stored)
    assert result.result(0) == {"text": "a"}
    assert result.result(1) == failure("internal", "no result from the worker for this item")


def test_a_task_that_celery_itself_failed_fails_all_of_its_items() -> None:
    stored = json.dumps({"status": "FAILURE", "result": {"exc_message": ["boom"]}, "task_id": "1"})
    result = ChunkResult.decode(stored)
    assert result.result(0) == result.result(7) == failure("internal", "failure: ['boom']")
