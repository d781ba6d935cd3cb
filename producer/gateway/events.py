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

from ..aio.client import AsyncBatch
from ..errors import ConnectionFailed, JobUnknown
from ..progress import Progress
from .auth import TenantDependency
from .batches import BatchId, find_batch
from .broadcast import BatchBroadcast, EventPage, counts_of
from .metadata import RequestMetadata
from .openapi import problem_responses
from .problems import Problem
from .queries import EventsQuery
from .responses import BatchBody
from .state import Gateway, GatewayDependency

router = APIRouter(tags=["batches"])

#: Seconds between heartbeats: proxies close connections that are idle for a minute.
HEARTBEAT_S: Final = 15
#: Timeout in seconds for a client that does not read.
SEND_S: Final = 60.0
#: Seconds between attempts to read a page while Redis is unreachable.
RETRY_S: Final = 1.0

_CURSOR: Final = re.compile(r"[0-9]{1,15}")
_EVENT: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["result", "progress", "end"]},
        "id": {"type": "string", "description": "Cursor of a result."},
        "data": {"type": "string", "description": "JSON."},
    },
}
_EXAMPLE: Final = (
    'event: progress\ndata: {"id":"photos","object":"batch","status":"running", …}\n\n'
    'event: result\nid: 1\ndata: {"custom_id":"1","status":"ok","text":"a cat","index":0,'
    '"cursor":1}\n\n'
    'event: end\ndata: {"id":"photos","object":"batch","status":"done", …}\n\n'
)
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events until the end of the batch",
        "content": {"text/event-stream": {"schema": _EVENT, "example": _EXAMPLE}},
    }
}


class EventStream(EventSourceResponse):
    """An SSE response with heartbeats and a send timeout."""

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, ping=HEARTBEAT_S, sep="\n", send_timeout=SEND_S)

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
            json_schema_extra={"pattern": "^[0-9]{0,15}$"},
        ),
    ] = "",
) -> Response:
    """Stream server-sent events: `result` for each result, `progress`, and a last `end`.

    The id of a `result` is its cursor, so a client that reconnects receives each result once.
    `progress` and `end` contain the response of `GET /v1/batches/{id}` and have no id. The `end` of
    a deleted batch has the status `deleted`. The server closes the stream after `end`: close it in
    the client as well, or a browser reconnects.
    """
    batch, _, metadata = await find_batch(gateway, tenant, public_id)
    cursor = _parse_cursor(last_event_id, query.cursor)
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
            if (progress.finished or progress.cancelled) and (not with_results or page.over):
                yield self._event("end", progress)
                return

    async def _page(self, broadcast: BatchBroadcast, cursor: int) -> EventPage:
        while True:
            try:
                return await broadcast.page(cursor)
            except ConnectionFailed:
                await asyncio.sleep(RETRY_S)

    def _event(self, name: str, progress: Progress) -> bytes:
        body = BatchBody.of(self._id, self._metadata, progress).model_dump_json()
        return f"event: {name}\ndata: {body}\n\n".encode()

    def _deleted(self) -> bytes:
        body = json.dumps({"id": self._id, "object": "batch", "status": "deleted"})
        return f"event: end\ndata: {body}\n\n".encode()


def _parse_cursor(last_event_id: str, cursor: int) -> int:
    if not last_event_id:
        return cursor
    if not _CURSOR.fullmatch(last_event_id):
        raise Problem("option_invalid", f"Last-Event-ID={last_event_id!r:.50}: must be a number")
    return int(last_event_id)
