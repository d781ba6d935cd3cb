"""What is kept with each job."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from producer.aio.client import AsyncJob
from producer.contract import Task
from producer.gateway.metadata import MetadataCache, RequestMetadata


class FakeJob:
    """A job that counts how often it was asked for its note."""

    def __init__(self, note: str | None) -> None:
        self.id = "acme.job.7"
        self.asked = 0
        self._note = note

    async def note(self) -> str | None:
        self.asked += 1
        return self._note


def read_twice(notes: MetadataCache, job: FakeJob) -> RequestMetadata | None:
    async def run() -> RequestMetadata | None:
        await notes.of(cast(AsyncJob[Any], job))
        return await notes.of(cast(AsyncJob[Any], job))

    return asyncio.run(run())


def test_a_note_is_read_once() -> None:
    noted = RequestMetadata.now(Task.VQA)
    job = FakeJob(noted.encode())
    assert read_twice(MetadataCache(), job) == noted
    assert job.asked == 1


def test_a_note_that_is_not_there_is_looked_for_again() -> None:
    job = FakeJob(None)
    assert read_twice(MetadataCache(), job) is None
    assert job.asked == 2


def test_what_is_remembered_is_bounded() -> None:
    notes = MetadataCache(kept=1)
    notes.put("acme.job.7", RequestMetadata.now(Task.VQA))
    notes.put("acme.job.8", RequestMetadata.now(Task.VQA))
    job = FakeJob(None)
    assert read_twice(notes, job) is None


@pytest.mark.parametrize("note", [None, "", "7", "[]", "{}", '{"task": "x", "created_at": 1}'])
def test_a_note_of_another_program_is_none(note: str | None) -> None:
    assert RequestMetadata.decode(note) is None
