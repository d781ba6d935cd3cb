"""Ids of jobs, batches and chunks."""

from __future__ import annotations

import time
import uuid

import pytest

from producer.ledger.ids import chunk_id, created_at, new_id, parse_chunk_id


def test_a_chunk_id_gives_back_its_batch_and_number() -> None:
    assert parse_chunk_id(chunk_id("0198-ab", 41)) == ("0198-ab", 41)


@pytest.mark.parametrize("task_id", ["0198-ab", "a:b", ":", "3:"])
def test_any_other_task_id_is_no_chunk(task_id: str) -> None:
    assert parse_chunk_id(task_id) is None


def test_a_new_id_contains_its_creation_time() -> None:
    created = created_at(new_id())
    assert created is not None
    assert abs(created - time.time()) < 5


@pytest.mark.parametrize("job_id", ["mine", str(uuid.UUID(int=4 << 76)), ""])
def test_any_other_id_has_no_creation_time(job_id: str) -> None:
    assert created_at(job_id) is None
