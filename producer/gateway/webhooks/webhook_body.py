"""Webhook bodies: jobs and batches in the JSON form that GET returns, for the sender's threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ...client import Client
from ...contract import State
from ...errors import JobUnknown
from ...ledger.records import WebhookEvent
from ..access.tenants import public_id_of
from ..schemas.job_responses import JobFields
from ..schemas.metadata import RequestMetadata
from ..schemas.responses import BatchBody

_OPEN: Final = (State.QUEUED, State.RUNNING)


class WebhookBodies:
    """A reader of ended jobs and batches; thread-safe. Raises ConnectionFailed."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, event: WebhookEvent) -> Mapping[str, Any] | None:
        """Return the job or batch of an event; None if it was reopened or has no metadata."""
        metadata = RequestMetadata.decode(event.metadata)
        if metadata is None:
            return None
        read = self._job if event.kind == "job" else self._batch
        body = read(event.id, public_id_of(event.id), metadata)
        return None if body is None else body.model_dump(mode="json")

    def _job(self, job_id: str, public_id: str, metadata: RequestMetadata) -> JobFields | None:
        progress = self._client.job(job_id).progress()
        return None if progress.state in _OPEN else JobFields.of(public_id, metadata, progress)

    def _batch(self, batch_id: str, public_id: str, metadata: RequestMetadata) -> BatchBody | None:
        try:
            progress = self._client.batch(batch_id).progress()
        except JobUnknown:
            # The batch was deleted.
            return None
        return BatchBody.of(public_id, metadata, progress) if progress.finished else None
