"""Response models; each has an example for the OpenAPI description."""

from __future__ import annotations

import time
from typing import Final, Literal, Self

from pydantic import BaseModel, Field

from ...contract import Queue
from ...ledger.records import Depth
from ...results.progress import Progress
from ...settings import ClientSettings
from .metadata import RequestMetadata
from .request_fields import TaskName, example_config

#: Status of a batch.
BatchStatus = Literal["queued", "running", "done", "failed", "cancelled"]
#: Maximum seconds between two polls of a job or batch: a key with 600 requests per minute can poll
#: 300 of them.
MAX_POLL_S: Final = 30
#: Age of a job or batch relative to the seconds until its next poll.
POLL_DIVISOR: Final = 4

#: Id of the examples.
_ID: Final = "01999f7e-0000-7000-8000-000000000000"


def poll_after_s(created_at: float) -> int:
    """Return the seconds of Retry-After for a job or batch that has not ended.

    They grow with its age, so that a poller learns of the end at most a quarter later.
    """
    return round(min(max(1.0, (time.time() - created_at) / POLL_DIVISOR), MAX_POLL_S))


def _has_ended(status: str) -> bool:
    return status not in ("queued", "running")


def batch_url(public_id: str) -> str:
    """Return the path of a batch."""
    return f"/v1/batches/{public_id}"


class RequestCounts(BaseModel):
    """Item counts of a batch."""

    total: int = Field(description="Submitted items; final once `submitted` is true.")
    completed: int = Field(description="Items with an output.")
    failed: int = Field(description="Items that ended with an error.")


class BatchUrls(BaseModel):
    """URLs of a batch."""

    get: str
    results: str
    errors: str
    events: str
    cancel: str = Field(description="Cancel with POST.")


class BatchBody(BaseModel):
    """Status and progress of a batch."""

    model_config = example_config(
        id="photos",
        object="batch",
        task="caption",
        status="running",
        created_at=1795000000.123,
        started_at=1795000000.456,
        ended_at=None,
        expires_at=None,
        metadata={"project": "cats"},
        request_counts={"total": 30000, "completed": 10045, "failed": 3},
        submitted=True,
        rate=796.2,
        left_s=25.1,
        urls={
            "get": "/v1/batches/photos",
            "results": "/v1/batches/photos/results",
            "errors": "/v1/batches/photos/errors",
            "events": "/v1/batches/photos/events",
            "cancel": "/v1/batches/photos/cancel",
        },
    )

    id: str
    object: Literal["batch"]
    task: TaskName
    status: BatchStatus = Field(description="`failed`: every item has ended, and some failed.")
    created_at: float = Field(description="Unix seconds.")
    started_at: float | None = Field(
        description="Unix seconds at which a worker began with the first items."
    )
    ended_at: float | None = Field(description="Unix seconds at which the last item ended.")
    expires_at: float | None = Field(
        description="Unix seconds until which all results are stored, once the batch has ended."
    )
    metadata: dict[str, str] = Field(description="Key-value pairs of the submission.")
    request_counts: RequestCounts
    submitted: bool = Field(description="True once the upload is complete.")
    rate: float | None = Field(description="Recent items per second; null while unknown.")
    left_s: float | None = Field(description="Remaining seconds at this rate.")
    urls: BatchUrls

    @classmethod
    def of(cls, public_id: str, metadata: RequestMetadata, progress: Progress) -> Self:
        """Return a batch under its public id."""
        url = batch_url(public_id)
        urls = {name: f"{url}/{name}" for name in ("results", "errors", "events", "cancel")}
        return cls(
            id=public_id,
            object="batch",
            task=metadata.task.short,  # type: ignore[arg-type]
            status=progress.state.value,  # type: ignore[arg-type]
            created_at=metadata.created_at,
            started_at=progress.started_at,
            ended_at=progress.ended_at,
            expires_at=progress.expires_at,
            metadata=dict(metadata.pairs),
            request_counts=RequestCounts(
                total=progress.total,
                completed=progress.done - progress.failed,
                failed=progress.failed,
            ),
            submitted=progress.submitted and not progress.cut,
            rate=None if progress.rate is None else round(progress.rate, 1),
            left_s=None if progress.left_s is None else round(progress.left_s, 1),
            urls=BatchUrls(get=url, **urls),
        )

    @property
    def ended(self) -> bool:
        """True if the status is final unless failed items are retried."""
        return _has_ended(self.status)


class RetriedBody(BaseModel):
    """Number of items that are retried."""

    model_config = example_config(items=3)

    items: int


class ImageBody(BaseModel):
    """An uploaded image."""

    model_config = example_config(image=f"blob:{'0a' * 32}", bytes=48213, expires_in_s=3600)

    image: str = Field(description="Reference for jobs and batches.")
    bytes: int
    expires_in_s: int = Field(
        description="Seconds within which a job must reference the image; open jobs retain it."
    )


class QueueBody(BaseModel):
    """Depth and limit of one queue."""

    open_items: int = Field(description="Items without a result.")
    max_items: int | None = Field(description="Limit of open items; null means unlimited.")


class QueuesBody(BaseModel):
    """Depth of the queues, of all tenants together, and the stored bytes of one."""

    model_config = example_config(
        queues={
            "interactive": {"open_items": 3, "max_items": 10000},
            "bulk": {"open_items": 19952, "max_items": 10000000},
        },
        running_jobs=16,
        workers=2,
        blob_bytes=5242880,
        max_blob_bytes=4294967296,
        stored_bytes=73400320,
        max_stored_bytes=2147483648,
    )

    queues: dict[str, QueueBody]
    running_jobs: int = Field(
        description="Jobs, each of one or more items, that workers are processing."
    )
    workers: int = Field(description="Workers that are alive.")
    blob_bytes: int = Field(description="Bytes of uploaded images that open jobs reference.")
    max_blob_bytes: int | None = Field(description="Limit of these bytes; null means unlimited.")
    stored_bytes: int = Field(
        description="Bytes stored for the name of the API key: images, items, results."
    )
    max_stored_bytes: int | None = Field(description="Its quota; null means unlimited.")

    @classmethod
    def of(cls, depth: Depth, stored_bytes: int, settings: ClientSettings) -> Self:
        """Return the depth of the queues with their limits."""
        limits = {
            Queue.INTERACTIVE: settings.max_queued_interactive,
            Queue.BULK: settings.max_queued_bulk,
        }
        return cls(
            queues={
                queue.value: QueueBody(open_items=items, max_items=limits[queue] or None)
                for queue, items in depth.items.items()
            },
            running_jobs=depth.running_jobs,
            workers=depth.workers,
            blob_bytes=depth.blob_bytes,
            max_blob_bytes=(settings.max_blob_mb << 20) or None,
            stored_bytes=stored_bytes,
            max_stored_bytes=settings.max_account_bytes or None,
        )


class ProblemBody(BaseModel):
    """Problem details (RFC 9457) of a failed request."""

    model_config = example_config(
        type="urn:blipline:error:option_invalid",
        title="The request is invalid",
        status=422,
        detail="image: is missing",
        code="option_invalid",
        request_id=_ID,
    )

    type: str = Field(description="`urn:blipline:error:<code>`")
    title: str
    status: int
    detail: str = Field(description="The cause and the remedy.")
    code: str
    request_id: str = Field(description="Also in the log of the gateway.")
