"""Server-sent events (SSE) of a batch: results, progress and the end."""

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

from ...aio.handles import AsyncBatch
from ...errors import ConnectionFailed, JobUnknown
from ...results.progress import Progress
from ..access.auth import TenantDependency
from ..http.problems import Problem
from ..openapi.openapi import problem_responses
from ..schemas.metadata import RequestMetadata
from ..schemas.queries import EventsQuery
from ..schemas.responses import BatchBody
from ..state import Gateway, GatewayDependency
from .batches import BatchId, find_batch
from .broadcast import BatchBroadcast, EventPage, counts_of
from .results import HEARTBEAT_S

router = APIRouter(tags=["batches"])

#: Timeout in seconds for a client that does not read.
SEND_S: Final = 60.0
#: Seconds between attempts to read a page while Redis is unreachable.
RETRY_S: Final = 1.0

#: Id of a `result` event, its cursor; that of an `end` event also says so.
_EVENT_ID: Final = re.compile(r"([0-9]{1,15})(-end)?")
_EVENT: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["result", "progress", "end"]},
        "id": {"type": "string", "description": "Cursor of a result, or of the end."},
        "data": {"type": "string", "description": "JSON."},
    },
}
_EXAMPLE: Final = (
    'event: progress\ndata: {"id":"photos","object":"batch","status":"running", …}\n\n'
    'event: result\nid: 1\ndata: {"custom_id":"1","status":"ok","text":"a cat","index":0,'
    '"cursor":1}\n\n'
    'event: end\nid: 1-end\ndata: {"id":"photos","object":"batch","status":"done", …}\n\n'
)
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events until the end of the batch",
        "content": {"text/event-stream": {"schema": _EVENT, "example": _EXAMPLE}},
    },
    204: {"description": "The client that reconnects has received the end"},
}


class EventStream(EventSourceResponse):
    """An SSE response with heartbeats and a send timeout."""

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, ping=int(HEARTBEAT_S), sep="\n", send_timeout=SEND_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            raise ClientDisconnect from None


@router.get(
    "/v1/batches/{id}/events",
    summary="Stream events of a batch",
    response_class=Response,
    responses={**_RESPONSES, **problem_responses(404, 422)},
)
async def listen(
    public_id: BatchId,
    query: Annotated[EventsQuery, Query()],
    tenant: TenantDependency,
    gateway: GatewayDependency,
    last_event_id: Annotated[
        str,
        Header(
            alias="Last-Event-ID",
            description="Id of the last received event: the stream continues after it.",
            json_schema_extra={"pattern": "^([0-9]{1,15}(-end)?)?$"},
        ),
    ] = "",
) -> Response:
    """Stream server-sent events: `result` for each result, `progress`, and a last `end`.

    The id of a `result` is its cursor, so a client that reconnects receives each result once.
    `progress` and `end` contain the response of `GET /v1/batches/{id}`. The `end` of a deleted
    batch has the status `deleted`. The server closes the stream after `end`; a browser that
    reconnects receives a 204, after which it stops.
    """
    batch, progress, metadata = await find_batch(gateway, tenant, public_id)
    cursor, has_ended = _parse_event_id(last_event_id, query.cursor)
    if has_ended and _is_over(progress):
        page = await batch.page(cursor, as_completed=True, most=1) if query.results else None
        if page is None or not page.results:
            return Response(status_code=204)
    events = _BatchEvents(gateway, batch, public_id, metadata)
    return EventStream(events.stream(cursor, query.results))


class _BatchEvents:
    """The events of one stream."""

    def __init__(
        self, gateway: Gateway, batch: AsyncBatch, public_id: str, metadata: RequestMetadata
    ) -> None:
        self._gateway = gateway
        self._batch = batch
        self._id = public_id
        self._metadata = metadata

    async def stream(self, cursor: int, with_results: bool) -> AsyncIterator[bytes]:
        """Yield events after a cursor, until the end of the batch or the shutdown."""
        gateway = self._gateway
        async with gateway.broadcaster.subscribe(self._batch) as broadcast:
            with gateway.metrics.streams.track_inprogress():
                try:
                    async for event in self._events(broadcast, cursor, with_results):
                        yield event
                except JobUnknown:
                    yield self._deleted()

    async def _events(
        self, broadcast: BatchBroadcast, cursor: int, with_results: bool
    ) -> AsyncIterator[bytes]:
        seen, last_counts = 0, None
        while True:
            await broadcast.changed(seen)
            seen, progress = broadcast.version, broadcast.progress
            if broadcast.stopping:
                return
            if broadcast.deleted or progress is None:
                raise JobUnknown(self._id)
            if last_counts != (last_counts := counts_of(progress)):
                yield self._event("progress", progress)
            while with_results and (page := await self._page(broadcast, cursor)).events:
                yield page.events
                cursor = page.cursor
            # The last results can be readable before the progress includes them.
            if _is_over(progress) and (not with_results or page.over):
                yield self._event("end", progress, f"{cursor}-end")
                return

    async def _page(self, broadcast: BatchBroadcast, cursor: int) -> EventPage:
        while True:
            try:
                return await broadcast.page(cursor)
            except ConnectionFailed:
                await asyncio.sleep(RETRY_S)

    def _event(self, name: str, progress: Progress, event_id: str | None = None) -> bytes:
        body = BatchBody.of(self._id, self._metadata, progress).model_dump_json()
        lines = [f"event: {name}", *([f"id: {event_id}"] if event_id else []), f"data: {body}"]
        return ("\n".join(lines) + "\n\n").encode()

    def _deleted(self) -> bytes:
        body = json.dumps({"id": self._id, "object": "batch", "status": "deleted"})
        return f"event: end\ndata: {body}\n\n".encode()


def _is_over(progress: Progress) -> bool:
    return progress.finished or progress.cancelled


def _parse_event_id(last_event_id: str, cursor: int) -> tuple[int, bool]:
    """Return the cursor to continue from, and whether the client has received the end."""
    if not last_event_id:
        return cursor, False
    if (parts := _EVENT_ID.fullmatch(last_event_id)) is None:
        detail = f"Last-Event-ID={last_event_id!r:.50}: must be the id of an event"
        raise Problem("option_invalid", detail)
    return int(parts[1]), parts[2] is not None
