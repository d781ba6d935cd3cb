"""Submission of an upload as a batch, and the cleanup of an interrupted one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import ClientDisconnect

from ...aio.handles import AsyncBatch
from ...contract import Task
from ...errors import BliplineError, JobUnknown
from ...ledger.ids import new_id
from ...ledger.submission import SubmissionInterrupted
from ..access.quota_meter import meter_of, settle
from ..access.tenants import Tenant
from ..http.problems import Problem, as_problem
from ..images.uploads import queue_full
from ..jobs.idempotency import id_taken, is_of_key
from ..schemas.metadata import RequestMetadata
from ..schemas.queries import BatchQuery
from ..state import Gateway
from .item_checks import checked_items, counted_items


@dataclass(frozen=True, slots=True)
class SubmittedBatch:
    """A batch whose upload is complete."""

    public_id: str
    metadata: RequestMetadata
    items: int


class ItemStream(Protocol):
    """The items of an upload."""

    def items(self) -> Iterator[dict[str, Any]]:
        """Yield the items, in a thread; raises Problem."""

    def stop(self) -> None:
        """Stop the thread that waits for items."""


async def submit_upload(
    gateway: Gateway,
    tenant: Tenant,
    query: BatchQuery,
    upload: ItemStream,
    note: Mapping[str, Any] | None = None,
    *,
    resumable: bool = True,
) -> SubmittedBatch:
    """Submit all items of an upload, with further fields of its note.

    Raises Problem, ClientDisconnect.

    An interrupted batch with an id that the client chose keeps its items, and the same upload can
    continue it. Without such an id the batch is deleted, unless the queue was full or a quota of
    the day used up: then the problem contains its id. If it is not `resumable`, it is deleted.
    """
    public_id, task = query.id or new_id(), Task.parse(query.task)
    batch = gateway.client.batch(tenant.batch_id(public_id))
    metadata = RequestMetadata.now(task, query.metadata_pairs())
    detector = _StallDetector(gateway.settings.gateway_upload_wait_s)
    items = checked_items(upload.items(), task, tenant.policy, unique=query.unique_custom_ids)
    keeps, kept_items, known_items = resumable and query.id is not None, 0, 0
    if (meter := meter_of(gateway.daily_quotas, tenant, "items")) is not None:
        known_items = await _item_count(batch)
        items = counted_items(items, meter, known_items)
    try:
        await gateway.client.submit_batch(
            items,
            task,
            batch_id=batch.id,
            submitter=tenant.name,
            note=metadata.encode(note),
            on_submitted=detector.on_submitted,
            **query.submit_options(),
        )
        kept_items = detector.items
    except _UploadStalled as error:
        kept_items = await _keep_or_delete(batch, resumable)
        raise queue_full(
            f"There was no room for {error.waited_s:g} s: the queue is full, or {tenant.name} has "
            f"used its quota (BLIPLINE_GATEWAY_QUOTA_MB). Batch {public_id} has "
            f"{error.items:,} items; repeat the upload with id={public_id} to submit the rest"
        ) from None
    except Exception as error:
        keeps = keeps or (resumable and isinstance(error, SubmissionInterrupted))
        kept_items = await _keep_or_delete(batch, keeps)
        if isinstance(error, ClientDisconnect):
            raise
        raise _upload_problem(error, batch.id, public_id, kept_items) from None
    except asyncio.CancelledError:
        # The process shuts down while the thread may still submit.
        upload.stop()
        kept_items = await _keep_or_delete(batch, keeps)
        raise
    finally:
        upload.stop()
        if meter is not None:
            used = max(0, kept_items - known_items)
            await settle(meter, gateway.redis_calls, used)
    return SubmittedBatch(public_id, metadata, detector.items)


async def _item_count(batch: AsyncBatch) -> int:
    """Return the number of items of a batch, 0 if it does not exist. Raises ConnectionFailed."""
    try:
        return (await batch.progress()).total
    except JobUnknown:
        return 0


async def _keep_or_delete(batch: AsyncBatch, keeps: bool) -> int:
    """Delete an interrupted batch that is not kept; return the number of kept items."""
    with suppress(BliplineError):
        if keeps:
            # Without items there is no batch any more.
            return await _item_count(batch)
        await asyncio.shield(batch.delete())
    return 0


def _upload_problem(error: Exception, inner_id: str, public_id: str, kept_items: int) -> Problem:
    problem = as_problem(error)
    if problem.code == "id_taken" and is_of_key(public_id):
        return id_taken(public_id)
    # Inner ids are not disclosed.
    detail = str(problem.detail).replace(inner_id, public_id).rstrip(".")
    state = "No items are kept"
    if kept_items:
        state = (
            f"Batch {public_id} has {kept_items:,} items; repeat the upload with id={public_id} to "
            "submit the rest"
        )
    return Problem(problem.code, f"{detail}. {state}", headers=problem.headers)


class _UploadStalled(Exception):
    """The queue was full for too long."""

    def __init__(self, items: int, waited_s: float) -> None:
        super().__init__(items, waited_s)
        self.items = items
        self.waited_s = waited_s


class _StallDetector:
    """A detector that ends a submission without progress for `max_wait_s`."""

    def __init__(self, max_wait_s: float) -> None:
        self._max_wait_s = max_wait_s
        #: Number of submitted items.
        self.items = 0
        #: Time of the first report without progress.
        self._stalled_since: float | None = None

    def on_submitted(self, items: int) -> None:
        """Record a report of `submit_batch`: it repeats the number while the queue is full."""
        now = time.monotonic()
        if items != self.items:
            self.items, self._stalled_since = items, None
        elif self._stalled_since is None:
            self._stalled_since = now
        elif now - self._stalled_since >= self._max_wait_s:
            raise _UploadStalled(items, self._max_wait_s)
