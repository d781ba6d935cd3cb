"""Server-sent events (SSE) of a job's text while it grows."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from ...aio.handles import AsyncJob
from ...errors import ConnectionFailed, JobError
from ...results.text_stream import TextPart
from ..access.auth import request_tenant
from ..batches.events import EventStream
from ..http.shutdown import wait_unless
from ..openapi.openapi import problem_responses
from ..schemas.job_responses import JobFields
from ..schemas.metadata import RequestMetadata
from ..state import Gateway, gateway_of
from .job_submission import find_job
from .jobs import JobId

router = APIRouter(tags=["jobs"])

_EVENT: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["text", "restart", "end"]},
        "data": {"type": "string", "description": "JSON."},
    },
}
_EXAMPLE: Final = (
    'event: text\ndata: {"text":"a cat"}\n\nevent: text\ndata: {"text":" on a sofa"}\n\n'
    'event: end\ndata: {"id":"photo-7","object":"job","status":"done", …}\n\n'
)
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events until the end of the job",
        "content": {"text/event-stream": {"schema": _EVENT, "example": _EXAMPLE}},
    }
}


@router.get(
    "/v1/jobs/{id}/events",
    summary="Stream the text of a job while it grows",
    response_class=Response,
    responses={**_RESPONSES, **problem_responses(404)},
)
async def listen_to_job(public_id: JobId, request: Request) -> Response:
    """Stream server-sent events: `text` for each part of the text, and a last `end`.

    The job was submitted with the option `stream`; the text of any other job is one part. After a
    `restart` the parts before are void. `end` contains the response of `GET /v1/jobs/{id}`. A
    client that reconnects receives the text from its beginning.
    """
    gateway = gateway_of(request)
    job, metadata = await find_job(gateway, request_tenant(request), public_id)
    return text_events(gateway, job, public_id, metadata)


def wants_events(request: Request) -> bool:
    """Return whether the response to a request is a stream."""
    return "text/event-stream" in request.headers.get("accept", "")


def text_events(
    gateway: Gateway, job: AsyncJob[Any], public_id: str, metadata: RequestMetadata
) -> Response:
    """Return the stream of a job."""
    return EventStream(_events(gateway, job, public_id, metadata))


async def _events(
    gateway: Gateway, job: AsyncJob[Any], public_id: str, metadata: RequestMetadata
) -> AsyncIterator[bytes]:
    with gateway.metrics.streams.track_inprogress():
        async for part in parts_of(gateway, job):
            if part.restarts:
                yield b"event: restart\ndata: {}\n\n"
            yield f"event: text\ndata: {json.dumps({'text': part.text})}\n\n".encode()
        if not gateway.stopping.is_set():
            body = JobFields.of(public_id, metadata, await job.progress()).model_dump_json()
            yield f"event: end\ndata: {body}\n\n".encode()


async def parts_of(gateway: Gateway, job: AsyncJob[Any]) -> AsyncGenerator[TextPart, None]:
    """Yield the parts of a job's text until its end, its error, or the shutdown."""
    async with aclosing(job.stream()) as parts:
        while True:
            try:
                part = await wait_unless(gateway.stopping, anext(parts, None))
            except (JobError, ConnectionFailed):
                return
            if part is None:
                return
            yield part
