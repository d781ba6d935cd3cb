"""An upload becomes a batch, and whatever ends it early leaves what the client was told."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import ClientDisconnect

from ..aio.client import AsyncBatch
from ..contract import Task
from ..errors import BliplineError
from ..ledger.ids import new_id
from .metadata import RequestMetadata
from .problems import Problem, as_problem
from .queries import BatchTerms
from .state import Gateway
from .tenants import Tenant
from .uploads import Upload, no_room


@dataclass(frozen=True, slots=True)
class Submitted:
    """A batch, all of which is in."""

    #: As the caller knows it.
    id: str
    noted: RequestMetadata
    items: int


async def submit(gateway: Gateway, caller: Tenant, terms: BatchTerms, upload: Upload) -> Submitted:
    """Submit everything. Raises Problem, ClientDisconnect.

    What breaks off under an id of the caller's own stays as far as it came, for the same upload to
    go on with; without one it is deleted, unless there was no room, and the caller is told the id.
    """
    outer_id, task = terms.id or new_id(), Task.parse(terms.task)
    batch = gateway.client.batch(caller.batch_id(outer_id))
    noted = RequestMetadata.now(task)
    room = _Room(gateway.settings.gateway_upload_wait_s)
    try:
        await gateway.client.submit_batch(
            upload.items(),
            task,
            batch_id=batch.id,
            submitter=caller.name,
            note=noted.encode(),
            on_submitted=room.hear,
            **terms.submission(),
        )
    except _NoRoom as error:
        raise no_room(
            f"There was no room for more for {error.waited_s:g} s. {error.items:,} items are in "
            f"batch {outer_id}, and go on; the same upload with id={outer_id} submits the rest"
        ) from None
    except Exception as error:
        kept = await _keep_or_drop(batch, terms.id is not None, error)
        if isinstance(error, ClientDisconnect):
            raise
        raise _told(error, batch.id, outer_id, kept) from None
    except asyncio.CancelledError:
        # The process is to end. The thread may still be at it.
        upload.stop()
        await _keep_or_drop(batch, terms.id is not None)
        raise
    finally:
        upload.stop()
    return Submitted(outer_id, noted, room.items)


async def _keep_or_drop(batch: AsyncBatch, is_own: bool, error: Exception | None = None) -> int:
    """How many items stay in of a batch that was cut short; one that nobody knows is dropped."""
    with suppress(BliplineError):
        kept = (await batch.progress()).total if is_own else 0
        # Bytes that begin wrong begin nothing.
        if not is_own or (not kept and isinstance(error, Problem)):
            await asyncio.shield(batch.delete())
        return kept
    return 0


def _told(error: Exception, inner_id: str, outer_id: str, kept: int) -> Problem:
    problem = as_problem(error)
    # Nobody is told ids inside.
    detail = str(problem.detail).replace(inner_id, outer_id).rstrip(".")
    about = f"{kept:,} items are in batch {outer_id}" if kept else "Nothing of it is kept"
    return Problem(problem.code, f"{detail}. {about}", headers=problem.headers)


class _NoRoom(Exception):
    """There was none for too long."""

    def __init__(self, items: int, waited_s: float) -> None:
        super().__init__(items, waited_s)
        self.items = items
        self.waited_s = waited_s


class _Room:
    """Notices that a submission gets no further."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        #: How many are in.
        self.items = 0
        #: When it was first heard that there is no room for more than these.
        self._full_at: float | None = None

    def hear(self, items: int) -> None:
        """So many are in, as `on_submitted` says it: once when they are, then while it waits."""
        now = time.monotonic()
        if items != self.items:
            self.items, self._full_at = items, None
        elif self._full_at is None:
            self._full_at = now
        elif now - self._full_at >= self._longest_s:
            raise _NoRoom(items, self._longest_s)
