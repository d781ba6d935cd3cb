"""Routes of one task each: the image and the fields in one request, the output in its response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from ...contract import Task
from ...ledger.ids import new_id
from ..access.auth import request_tenant
from ..openapi.openapi import PREFER, SUBMIT_RESPONSES, problem_responses
from ..openapi.task_openapi import task_body, task_parameters
from ..schemas.task_fields import TASK_MODELS, TaskFields, streamed
from ..state import gateway_of
from .idempotency import IDEMPOTENCY_KEY, idempotent_id
from .job_submission import first_metadata, submit_job, submit_response
from .task_body import read_task_request
from .text_events import text_events, wants_events

router = APIRouter(tags=["tasks"])

#: Task of each route.
ROUTES: Final[Mapping[str, Task]] = {
    "ask" if task is Task.VQA else task.short: task for task in TASK_MODELS
}
_DESCRIPTION: Final = """Submit one image, and wait for the output.

The body is JSON; a form with a file `file` or `image`; or the bytes of the image, with the fields
in the query. The response waits as long as `Prefer: wait=N` says, or, without the header, as long
as the gateway allows. A job that has not ended by then is a 202 with the URL to poll. A failed job
is a 200 with an `error`: the HTTP status describes the request. With `Accept: text/event-stream`
the response is the stream of `GET /v1/jobs/{id}/events`."""


def _endpoint(model: type[TaskFields]) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a task."""

    async def submit_task(request: Request) -> Response:
        gateway, tenant = gateway_of(request), request_tenant(request)
        chosen_id = idempotent_id(request)
        public_id = chosen_id or new_id()
        async with read_task_request(request, model) as parsed:
            streams = wants_events(request)
            fields = streamed(parsed.fields) if streams else parsed.fields
            job, metadata = await submit_job(gateway, tenant, public_id, fields, parsed.image)
        if streams:
            metadata = await first_metadata(gateway, job, metadata, is_new=chosen_id is None)
            return text_events(gateway, job, public_id, metadata)
        return await submit_response(
            request,
            public_id,
            job,
            metadata,
            is_new=chosen_id is None,
            default_wait_s=gateway.settings.gateway_max_wait_s,
        )

    return submit_task


for _name, _task in ROUTES.items():
    _model = TASK_MODELS[_task]
    router.add_api_route(
        f"/v1/{_name}",
        _endpoint(_model),
        methods=["POST"],
        name=_name,
        summary=(_model.__doc__ or "").rstrip("."),
        description=_DESCRIPTION,
        status_code=202,
        response_class=Response,
        responses={**SUBMIT_RESPONSES, **problem_responses(409, 422)},
    )


def describe() -> None:
    """Add bodies and parameters to the OpenAPI description of the routes."""
    for route in router.routes:
        assert isinstance(route, APIRoute)
        model = TASK_MODELS[ROUTES[route.name]]
        route.openapi_extra = {
            "requestBody": task_body(model),
            "parameters": [PREFER, IDEMPOTENCY_KEY, *task_parameters(model)],
        }
