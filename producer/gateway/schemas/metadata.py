"""Metadata of jobs and batches submitted over HTTP, stored as their notes, and its cache."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from ...aio.handles import AsyncJob
from ...contract import Task
from ..http.lru import LRUCache

#: Maximum number of jobs whose metadata is cached.
MAX_CACHED_JOBS: Final = 65_536
#: Seconds until metadata is read again: an id can be reused once its job has expired.
CACHE_TTL_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class RequestMetadata:
    """Fields of a response that the job store itself does not have."""

    task: Task
    #: Time of the first submission, Unix seconds.
    created_at: float
    #: Key-value pairs of the client.
    pairs: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def now(cls, task: Task, pairs: Mapping[str, str] | None = None) -> Self:
        """Return the metadata of a submission at this moment."""
        return cls(task, round(time.time(), 3), dict(pairs or {}))

    def encode(self, extra: Mapping[str, Any] | None = None) -> str:
        """Return the text for `note=`; `extra` are fields of another API."""
        fields = {"task": self.task.short, "created_at": self.created_at}
        pairs = {"metadata": self.pairs} if self.pairs else {}
        return json.dumps({**fields, **pairs, **(extra or {})})

    @classmethod
    def decode(cls, note: str | None) -> Self | None:
        """Read a note; return None if there is none or another program wrote it."""
        try:
            fields = json.loads(note or "")
            task, created_at = Task.parse(fields["task"]), float(fields["created_at"])
            pairs = {
                str(name): str(value) for name, value in dict(fields.get("metadata", ())).items()
            }
            return cls(task, created_at, pairs)
        except (ValueError, TypeError, KeyError):
            return None


class MetadataCache:
    """A cache of metadata, which does not change, so that polling a job costs a single read."""

    def __init__(self, max_jobs: int = MAX_CACHED_JOBS) -> None:
        self._entries: LRUCache[str, tuple[RequestMetadata, float]] = LRUCache(max_jobs)

    def put(self, job_id: str, metadata: RequestMetadata) -> None:
        """Cache the metadata of a job."""
        self._entries.put(job_id, (metadata, time.monotonic() + CACHE_TTL_S))

    def drop(self, job_id: str) -> None:
        """Forget a job that was erased."""
        self._entries.drop(job_id)

    async def of(self, job: AsyncJob[object]) -> RequestMetadata | None:
        """Return the metadata of a job; None if there is no such job. Raises ConnectionFailed."""
        metadata, expires = self._entries.get(job.id) or (None, 0.0)
        if metadata is None or expires <= time.monotonic():
            metadata = RequestMetadata.decode(await job.note())
            if metadata is not None:
                self.put(job.id, metadata)
        return metadata
