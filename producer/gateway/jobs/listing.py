"""Lists of a name's jobs and batches, with filters, from the index of the job store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import redis

from ...job import progress_of
from ...ledger.account_index import AccountIndex, IndexEntry, IndexKind
from ...ledger.batch_progress import read_progress
from ...ledger.keys import Keys
from ...ledger.ledger import Ledger
from ..access.tenants import Tenant
from ..schemas.job_responses import JobFields
from ..schemas.list_filter import ListFilter
from ..schemas.metadata import RequestMetadata
from ..schemas.responses import BatchBody

#: Maximum entries that are read at once, and that one request searches: a filter can reject nearly
#: all of them, and a request must end.
READ_ENTRIES: Final = 200
MAX_SEARCHED: Final = 2_000

Body = TypeVar("Body", JobFields, BatchBody)


@dataclass(frozen=True, slots=True)
class ListPage(Generic[Body]):
    """A page of a list."""

    bodies: list[Body]
    #: Continues the list; None at its end.
    next_cursor: str | None


class JobListing:
    """The lists of one deployment. Its methods block: call them in a thread."""

    def __init__(self, connection: redis.Redis, keys: Keys) -> None:
        self._redis = connection
        self._keys = keys
        self._index = AccountIndex(connection, keys)
        self._ledger = Ledger(connection, keys)

    def jobs(
        self, tenant: Tenant, selection: ListFilter, limit: int, cursor: str | None
    ) -> ListPage[JobFields]:
        """Return the single jobs that a filter selects, the newest first; raises InvalidInput."""
        return self._page(tenant, "job", selection, limit, cursor, self._job_bodies)

    def batches(
        self, tenant: Tenant, selection: ListFilter, limit: int, cursor: str | None
    ) -> ListPage[BatchBody]:
        """Return the batches that a filter selects, the newest first; raises InvalidInput."""
        return self._page(tenant, "batch", selection, limit, cursor, self._batch_bodies)

    def jobs_of(
        self, tenant: Tenant, public_ids: Sequence[str], selection: ListFilter
    ) -> list[JobFields]:
        """Return the jobs of these ids that a filter selects, in their order.

        Raises InvalidInput for an id that no job can have.
        """
        return self._job_bodies(tenant, public_ids, selection)

    def _page(
        self,
        tenant: Tenant,
        kind: IndexKind,
        selection: ListFilter,
        limit: int,
        cursor: str | None,
        read: Callable[[Tenant, Sequence[str], ListFilter], list[Body]],
    ) -> ListPage[Body]:
        last = None if cursor is None else IndexEntry.of_cursor(cursor)
        bodies: list[Body] = []
        cursors: dict[str, str] = {}
        # Without a filter, one read is sufficient.
        count = limit + 1
        while True:
            entries = self._index.page(
                tenant.name,
                kind,
                count,
                after=last,
                since=selection.since,
                until=selection.until,
            )
            cursors |= {entry.id: entry.cursor for entry in entries}
            bodies += read(tenant, [entry.id for entry in entries], selection)
            if len(bodies) > limit:
                return ListPage(bodies[:limit], cursors[bodies[limit - 1].id])
            if len(entries) < count:
                return ListPage(bodies, None)
            last = entries[-1]
            if len(cursors) >= MAX_SEARCHED:
                return ListPage(bodies, last.cursor)
            count = min(2 * count, READ_ENTRIES)

    def _job_bodies(
        self, tenant: Tenant, public_ids: Sequence[str], selection: ListFilter
    ) -> list[JobFields]:
        inner_ids = [tenant.job_id(public_id) for public_id in public_ids]
        notes = self._index.notes(inner_ids)
        known = _decoded(public_ids, notes, selection)
        snapshots = self._ledger.snapshot_all([tenant.job_id(public_id) for public_id in known])
        bodies = [
            JobFields.of(public_id, metadata, progress_of(snapshot))
            for (public_id, metadata), snapshot in zip(known.items(), snapshots, strict=True)
        ]
        return [body for body in bodies if selection.status in (None, body.status)]

    def _batch_bodies(
        self, tenant: Tenant, public_ids: Sequence[str], selection: ListFilter
    ) -> list[BatchBody]:
        self._ledger.expire_due()
        inner_ids = [tenant.batch_id(public_id) for public_id in public_ids]
        bodies = []
        read = read_progress(self._redis, self._keys, inner_ids)
        for public_id, progress in zip(public_ids, read, strict=True):
            # A batch of the index can have expired since.
            metadata = None if progress is None else RequestMetadata.decode(progress.note)
            if progress is not None and metadata is not None and selection.selects(metadata):
                body = BatchBody.of(public_id, metadata, progress)
                if selection.status in (None, body.status):
                    bodies.append(body)
        return bodies


def list_json(page: ListPage[Any]) -> str:
    """Return the body of a response."""
    data = ",".join(body.model_dump_json() for body in page.bodies)
    return (
        f'{{"object":"list","data":[{data}],"has_more":{json.dumps(page.next_cursor is not None)},'
        f'"next_cursor":{json.dumps(page.next_cursor)}}}'
    )


def _decoded(
    public_ids: Sequence[str], notes: Sequence[str | None], selection: ListFilter
) -> Mapping[str, RequestMetadata]:
    """Return the metadata that a filter selects, by the id of the job."""
    pairs = zip(public_ids, map(RequestMetadata.decode, notes), strict=True)
    return {
        public_id: metadata
        for public_id, metadata in pairs
        if metadata is not None and selection.selects(metadata)
    }
