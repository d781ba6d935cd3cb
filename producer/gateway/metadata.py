"""What is kept with each job and batch that came over HTTP, and is read again with every look."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Final, Self

from ..aio.client import AsyncJob
from ..contract import Task
from .lru import LRUCache

#: Jobs whose notes are remembered.
KEPT_NOTES: Final = 65_536
#: Seconds after which a note is read again: an id may be used anew once its job is forgotten.
KNOWN_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class RequestMetadata:
    """What an answer says that the ledger itself does not know."""

    task: Task
    #: When it was submitted first, Unix seconds.
    created_at: float

    @classmethod
    def now(cls, task: Task) -> Self:
        """The note of what is submitted at this moment."""
        return cls(task, round(time.time(), 3))

    def encode(self) -> str:
        """As `note=` takes it."""
        return json.dumps({"task": self.task.short, "created_at": self.created_at})

    @classmethod
    def decode(cls, note: str | None) -> Self | None:
        """None where there is none, or another program wrote it."""
        try:
            said = json.loads(note or "")
            return cls(Task.parse(said["task"]), float(said["created_at"]))
        except (ValueError, TypeError, KeyError):
            return None


class MetadataCache:
    """Remembers notes, which do not change: a job that is looked at again costs one look."""

    def __init__(self, kept: int = KEPT_NOTES) -> None:
        self._recent: LRUCache[str, tuple[RequestMetadata, float]] = LRUCache(kept)

    def put(self, job_id: str, noted: RequestMetadata) -> None:
        """Remember the note of a job that was submitted just now."""
        self._recent.put(job_id, (noted, time.monotonic() + KNOWN_S))

    async def of(self, job: AsyncJob[object]) -> RequestMetadata | None:
        """The note of a job; None where there is no such job. Raises ConnectionFailed."""
        noted, until = self._recent.get(job.id) or (None, 0.0)
        if noted is None or until <= time.monotonic():
            noted = RequestMetadata.decode(await job.note())
            if noted is not None:
                self.put(job.id, noted)
        return noted
