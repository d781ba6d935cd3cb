"""What GET says of jobs and batches, for the threads that send webhooks to say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import redis

from ..batch import Batch
from ..contract import State
from ..errors import JobUnknown
from ..job import Job
from ..ledger import Ledger
from ..rows import Announcement
from .bodies import BatchBody, JobBody
from .notes import Noted

_OPEN: Final = (State.QUEUED, State.RUNNING)


class Ends:
    """Reads what has ended; thread-safe. Raises what Job and Batch do when Redis is away."""

    def __init__(self, client: redis.Redis, ledger: Ledger, redis_url: str) -> None:
        self._redis = client
        self._ledger = ledger
        self._redis_url = redis_url

    def read(self, told: Announcement) -> Mapping[str, Any] | None:
        """The job or batch as it stands; None where it is open again, or not of a gateway."""
        noted = Noted.decode(told.note)
        _, _, outer_id = told.id.split(".", 2)
        if noted is None:
            return None
        body = self._job if told.kind == "job" else self._batch
        found = body(told.id, outer_id, noted)
        return None if found is None else found.model_dump(mode="json")

    def _job(self, job_id: str, outer_id: str, noted: Noted) -> JobBody | None:
        state, result = Job(job_id, self._ledger, self._redis_url).look()
        return None if state in _OPEN else JobBody.of(outer_id, noted, state, result)

    def _batch(self, batch_id: str, outer_id: str, noted: Noted) -> BatchBody | None:
        batch = Batch(batch_id, self._redis, self._ledger, self._redis_url)
        try:
            progress = batch.progress()
        except JobUnknown:
            # It was deleted.
            return None
        return BatchBody.of(outer_id, noted, progress) if progress.finished else None
