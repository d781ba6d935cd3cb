"""Metadata of jobs, and its cache."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from producer.aio.handles import AsyncJob
from producer.contract import Task
from producer.gateway.schemas.metadata import MetadataCache, RequestMetadata


class FakeJob:
    """A job that counts the reads of its note."""

    def __init__(self, note: str | None) -> None:
        self.id = "acme.job.7"
        self.reads = 0
        self._note = note

    async def note(self) -> str | None:
        self.reads += 1
        return self._note


def read_twice(cache: MetadataCache, job: FakeJob) -> RequestMetadata | None:
    async def run() -> RequestMetadata | None:
        await cache.of(cast(AsyncJob[Any], job))
        return await cache.of(cast(AsyncJob[Any], job))

    return asyncio.run(run())


def test_metadata_is_read_once() -> None:
    metadata = RequestMetadata.now(Task.VQA)
    job = FakeJob(metadata.encode())
    assert read_twice(MetadataCache(), job) == metadata
    assert job.reads == 1


def test_missing_metadata_is_not_cached() -> None:
    job = FakeJob(None)
    assert read_twice(MetadataCache(), job) is None
    assert job.reads == 2


def test_the_cache_is_bounded() -> None:
    cache = MetadataCache(max_jobs=1)
    cache.put("acme.job.7", RequestMetadata.now(Task.VQA))
    cache.put("acme.job.8", RequestMetadata.now(Task.VQA))
    job = FakeJob(None)
    assert read_twice(cache, job) is None


@pytest.mark.parametrize("note", [None, "", "7", "[]", "{}", '{"task": "x", "created_at": 1}'])
def test_a_note_of_another_program_is_ignored(note: str | None) -> None:
    assert RequestMetadata.decode(note) is None
