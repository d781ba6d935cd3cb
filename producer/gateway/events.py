"""Server-sent events of a batch: its results as they come, its progress, and its end."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Response
from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from ..aio.client import AsyncBatch
from ..errors import ConnectionFailed, JobUnknown
from ..progress import Progress
from .auth import CallerDependency
from .batches import BatchId, known
from .broadcast import BatchBroadcast, EventPage, counts_of
from .metadata import RequestMetadata
from .openapi import problems
from .problems import Problem
from .queries import EventsQuery
from .responses import BatchBody
from .state import Gateway, GatewayDependency

router = APIRouter(tags=["batches"])

#: Seconds between two signs of life: proxies close what is silent for a minute.
HEARTBEAT_S: Final = 15
#: Seconds after which a client that takes nothing is given up.
SEND_S: Final = 60.0
#: Seconds until what Redis did not answer is tried again.
TRY_AGAIN_S: Final = 1.0

_CURSOR: Final = re.compile(r"[0-9]{1,15}")
_EVENT: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["result", "progress", "end"]},
        "id": {"type": "string", "description": "Of a result: its cursor."},
        "data": {"type": "string", "description": "JSON."},
    },
}
_EXAMPLE: Final = (
    'event: progress\ndata: {"id":"photos","object":"batch","status":"running", …}\n\n'
    'event: result\nid: 1\ndata: {"custom_id":"1","status":"ok","text":"a cat","index":0,'
    '"cursor":1}\n\n'
    'event: end\ndata: {"id":"photos","object":"batch","status":"done", …}\n\n'
)
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The events, until the batch has ended",
        "content": {"text/event-stream": {"schema": _EVENT, "example": _EXAMPLE}},
    }
}


class Stream(EventSourceResponse):
    """One that a client which takes nothing does not hold for ever."""

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, ping=HEARTBEAT_S, sep="\n", send_timeout=SEND_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            raise ClientDisconnect from None


@router.get(
    "/v1/batches/{id}/events",
    summary="Listen to a batch",
    response_class=Response,
    responses={**_STREAM, **problems(404, 422)},
)
async def listen(
    outer_id: BatchId,
    listening: Annotated[EventsQuery, Query()],
    caller: CallerDependency,
    gateway: GatewayDependency,
    last_event_id: Annotated[
        str,
        Header(
            alias="Last-Event-ID",
            description="The id of the last event that was received: the stream goes on after it.",
            json_schema_extra={"pattern": "^[0-9]{0,15}$"},
        ),
    ] = "",
) -> Response:
    """Server-sent events: `result` for each result as it comes, `progress`, and a last `end`.

    The id of a `result` is its cursor, so a client that connects again gets each result once.
    `progress` and `end` have what `GET /v1/batches/{id}` answers, without an id; of a batch that
    was deleted `end` says the status `deleted`. After `end` the stream is closed: close it, too,
    or a browser connects again.
    """
    batch, _, noted = await known(gateway, caller, outer_id)
    cursor = _cursor(last_event_id, listening.cursor)
    events = _Events(gateway, batch, outer_id, noted)
    return Stream(events.run(cursor, listening.results))


class _Events:
    """What one stream says."""

    def __init__(
        self, gateway: Gateway, batch: AsyncBatch, outer_id: str, noted: RequestMetadata
    ) -> None:
        self._gateway = gateway
        self._batch = batch
        self._id = outer_id
        self._noted = noted

    async def run(self, cursor: int, with_results: bool) -> AsyncIterator[bytes]:
        """Events from a cursor on, until the batch has ended or the process is to end."""
        gateway = self._gateway
        async with gateway.hubs.join(self._batch) as hub:
            with gateway.metrics.streams.track_inprogress():
                try:
                    async for event in self._listen(hub, cursor, with_results):
                        yield event
                except JobUnknown:
                    yield self._deleted()

    async def _listen(
        self, hub: BatchBroadcast, cursor: int, with_results: bool
    ) -> AsyncIterator[bytes]:
        seen, shown = 0, None
        while True:
            await hub.changed(seen)
            seen, now = hub.version, hub.progress
            if hub.stopping:
                return
            if hub.gone or now is None:
                raise JobUnknown(self._id)
            if shown != (shown := counts_of(now)):
                yield self._about("progress", now)
            while with_results and (page := await self._page(hub, cursor)).events:
                yield page.events
                cursor = page.cursor
            # The last results may be there before a look has found them.
            if (now.finished or now.cancelled) and (not with_results or page.over):
                yield self._about("end", now)
                return

    async def _page(self, hub: BatchBroadcast, cursor: int) -> EventPage:
        while True:
            try:
                return await hub.page(cursor)
            except ConnectionFailed:
                await asyncio.sleep(TRY_AGAIN_S)

    def _about(self, event: str, now: Progress) -> bytes:
        body = BatchBody.of(self._id, self._noted, now).model_dump_json()
        return f"event: {event}\ndata: {body}\n\n".encode()

    def _deleted(self) -> bytes:
        body = json.dumps({"id": self._id, "object": "batch", "status": "deleted"})
        return f"event: end\ndata: {body}\n\n".encode()


def _cursor(last_event_id: str, cursor: int) -> int:
    if not last_event_id:
        return cursor
    if not _CURSOR.fullmatch(last_event_id):
        raise Problem("option_invalid", f"Last-Event-ID={last_event_id!r:.50}: must be a number")
    return int(last_event_id)
