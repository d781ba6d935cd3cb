"""What GET says of jobs and batches, for the threads that send webhooks to say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..client import Client
from ..contract import State
from ..errors import JobUnknown
from ..ledger.records import WebhookEvent
from .metadata import RequestMetadata
from .responses import BatchBody, JobBody
from .tenants import public_id_of

_OPEN: Final = (State.QUEUED, State.RUNNING)


class WebhookBodies:
    """Reads what has ended; thread-safe. Raises ConnectionFailed."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, told: WebhookEvent) -> Mapping[str, Any] | None:
        """The job or batch as it stands; None where it is open again, or not of a gateway."""
        noted = RequestMetadata.decode(told.note)
        if noted is None:
            return None
        body = self._job if told.kind == "job" else self._batch
        found = body(told.id, public_id_of(told.id), noted)
        return None if found is None else found.model_dump(mode="json")

    def _job(self, job_id: str, outer_id: str, noted: RequestMetadata) -> JobBody | None:
        state, result = self._client.job(job_id).look()
        return None if state in _OPEN else JobBody.of(outer_id, noted, state, result)

    def _batch(self, batch_id: str, outer_id: str, noted: RequestMetadata) -> BatchBody | None:
        try:
            progress = self._client.batch(batch_id).progress()
        except JobUnknown:
            # It was deleted.
            return None
        return BatchBody.of(outer_id, noted, progress) if progress.finished else None
