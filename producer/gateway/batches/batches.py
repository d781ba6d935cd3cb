"""Routes of batches: upload, status, results, cancel, retry and delete."""

from __future__ import annotations

from typing import Annotated, Any, Final, get_args

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse

from ...aio.handles import AsyncBatch
from ...errors import ConnectionFailed, InvalidInput, JobUnknown
from ...results.progress import Progress
from ..access.auth import TenantDependency
from ..access.tenants import Tenant, path_id
from ..http.logs import LOGGER
from ..http.problems import Problem
from ..images.uploads import Upload
from ..jobs.idempotency import IDEMPOTENCY_KEY, idempotent_id
from ..openapi.openapi import json_responses, problem_responses
from ..openapi.openapi_bodies import batch_body
from ..schemas.json_lines import LINES_SCHEMA, RESULT_TYPES, result_type
from ..schemas.metadata import RequestMetadata
from ..schemas.queries import BatchQuery, ErrorsQuery, ResultsQuery
from ..schemas.responses import BatchBody, BatchStatus, RetriedBody, batch_url, poll_after_s
from ..state import Gateway, GatewayDependency, gateway_of
from .batch_upload import SubmittedBatch, submit_upload
from .results import ResultSelection, stream_results

router = APIRouter(tags=["batches"])

BatchId = Annotated[str, path_id("photos")]

_LINES_EXAMPLE: Final = (
    '{"custom_id":"1","status":"ok","text":"a black cat","index":0,"cursor":1}\n'
    '{"custom_id":"2","status":"error","error":{"code":"image_unreachable","message":"…"},'
    '"index":1,"cursor":2}\n'
)
_STATUS_RESPONSES: Final = {
    **json_responses({200: "The batch"}, BatchBody, "Retry-After"),
    **problem_responses(404),
}


def _lines_responses(description: str) -> dict[int | str, dict[str, Any]]:
    status = {
        "description": "Status of the batch at the time of the request",
        "schema": {"type": "string", "enum": list(get_args(BatchStatus))},
        "example": "running",
    }
    response = {
        "description": description,
        "content": {
            kind: {"schema": LINES_SCHEMA, "example": _LINES_EXAMPLE} for kind in RESULT_TYPES
        },
        "headers": {"Blipline-Status": status},
    }
    return {200: response, **problem_responses(404, 422)}


@router.post(
    "/v1/batches",
    summary="Submit a batch",
    status_code=202,
    response_class=Response,
    responses={
        **json_responses({202: "All items are submitted"}, BatchBody, "Location", "Retry-After"),
        **problem_responses(404, 409, 422),
    },
    openapi_extra={"requestBody": batch_body(), "parameters": [IDEMPOTENCY_KEY]},
)
async def create_batch(
    request: Request,
    query: Annotated[BatchQuery, Query()],
    tenant: TenantDependency,
    gateway: GatewayDependency,
) -> Response:
    """Submit any number of items; the gateway reads the body as fast as the queue accepts them.

    An invalid item ends with its own error. With an `id` that you choose, an interrupted upload can
    be repeated: no item is submitted twice. `Idempotency-Key` is such an id. Without one, an
    interrupted batch is deleted. If the queue stays full, a 429 contains the `id` under which to
    repeat the upload.
    """
    key_id = idempotent_id(request)
    upload = Upload(request, gateway.settings, gateway.image_access(tenant))
    with gateway.upload_slots.acquire(tenant.name):
        query = query.with_form_fields(await upload.fields()).with_key_id(key_id)
        await gateway.webhook_guard.check(query.webhook, tenant.name)
        submitted = await submit_upload(gateway, tenant, query, upload)
    body = await _submitted_body(gateway, tenant, submitted)
    return _response(body, 202, {"Location": batch_url(submitted.public_id)})


@router.head("/v1/batches/{id}", include_in_schema=False)
@router.get(
    "/v1/batches/{id}",
    summary="Get a batch",
    response_class=Response,
    responses=_STATUS_RESPONSES,
)
async def get_batch(
    public_id: BatchId, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Return the item counts of a batch, its rate and the remaining time."""
    _, progress, metadata = await find_batch(gateway, tenant, public_id)
    return _response(BatchBody.of(public_id, metadata, progress))


@router.get(
    "/v1/batches/{id}/results",
    summary="Get the results of a batch",
    response_class=StreamingResponse,
    responses=_lines_responses("A line of JSON, a `ResultLine`, for each result"),
)
async def get_results(
    request: Request,
    public_id: BatchId,
    query: Annotated[ResultsQuery, Query()],
    tenant: TenantDependency,
) -> StreamingResponse:
    """Stream a line of JSON for each result, in the order of the items or of completion.

    The stream contains the present results, or with `wait` all results until the end of the batch.
    Each line has a `cursor` to continue after it, and the `index` of its item, from 0. Spaces may
    precede a line and follow the last one.
    """
    as_completed = query.order == "completed"
    selection = ResultSelection(query.cursor, query.limit, as_completed, wait=query.wait)
    return await _stream(request, tenant, public_id, selection)


@router.get(
    "/v1/batches/{id}/errors",
    summary="Get the failed items of a batch",
    response_class=StreamingResponse,
    responses=_lines_responses("A line of JSON, a `ResultLine`, for each failed item"),
)
async def get_errors(
    request: Request,
    public_id: BatchId,
    query: Annotated[ErrorsQuery, Query()],
    tenant: TenantDependency,
) -> StreamingResponse:
    """Stream the lines of `results` that have an error, in the order of the items."""
    selection = ResultSelection(query.cursor, query.limit, only_failed=True, wait=query.wait)
    return await _stream(request, tenant, public_id, selection)


@router.post(
    "/v1/batches/{id}/cancel",
    summary="Cancel a batch",
    response_class=Response,
    responses=_STATUS_RESPONSES,
)
async def cancel_batch(
    public_id: BatchId, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Cancel the queued items of a batch; items that have ended keep their results."""
    batch, progress, metadata = await find_batch(gateway, tenant, public_id)
    if not progress.finished:
        await batch.cancel()
        progress = await gateway.progress_reader.progress(batch)
    return _response(BatchBody.of(public_id, metadata, progress))


@router.post(
    "/v1/batches/{id}/retry",
    summary="Retry the failed items of a batch",
    responses={
        **json_responses({200: "The failed items are queued again"}, RetriedBody),
        **problem_responses(404),
    },
)
async def retry_batch(
    public_id: BatchId, tenant: TenantDependency, gateway: GatewayDependency
) -> RetriedBody:
    """Retry failed items and continue a cancelled batch; items that succeeded keep their results.

    Requests during a retry receive its response.
    """
    batch, _, _ = await find_batch(gateway, tenant, public_id)
    return RetriedBody(items=await gateway.batch_retries.get(batch.id, batch.retry_failed))


@router.delete(
    "/v1/batches/{id}",
    summary="Delete a batch",
    status_code=204,
    response_class=Response,
    responses={204: {"description": "The batch is deleted"}, **problem_responses(404)},
)
async def delete_batch(
    public_id: BatchId, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Delete a batch with its results, and cancel its queued items."""
    batch, _, _ = await find_batch(gateway, tenant, public_id)
    await batch.delete()
    return Response(status_code=204)


async def find_batch(
    gateway: Gateway, tenant: Tenant, public_id: str
) -> tuple[AsyncBatch, Progress, RequestMetadata]:
    """Return a batch of a tenant and its progress; raises Problem if there is none."""
    try:
        batch = gateway.client.batch(tenant.batch_id(public_id))
        progress = await gateway.progress_reader.progress(batch)
    except (InvalidInput, JobUnknown):
        raise _not_found(public_id) from None
    if (metadata := RequestMetadata.decode(progress.note)) is None:
        raise _not_found(public_id)
    return batch, progress, metadata


async def _submitted_body(gateway: Gateway, tenant: Tenant, submitted: SubmittedBatch) -> BatchBody:
    """Return a new batch. If Redis fails meanwhile, the response must still contain its id."""
    try:
        _, progress, metadata = await find_batch(gateway, tenant, submitted.public_id)
    except ConnectionFailed as error:
        LOGGER.warning("%s", error)
        items, metadata = submitted.items, submitted.metadata
        progress = Progress(items, 0, 0, submitted=True, cancelled=False, task=metadata.task)
    return BatchBody.of(submitted.public_id, metadata, progress)


def _not_found(public_id: str) -> Problem:
    return Problem("not_found", f"There is no batch {public_id!r:.100}, or it has expired")


async def _stream(
    request: Request, tenant: Tenant, public_id: str, selection: ResultSelection
) -> StreamingResponse:
    gateway = gateway_of(request)
    batch, progress, _ = await find_batch(gateway, tenant, public_id)
    return StreamingResponse(
        stream_results(batch, selection, gateway.stopping),
        # nginx would buffer the lines of a stream that waits.
        headers={"Blipline-Status": progress.state.value, "X-Accel-Buffering": "no"},
        media_type=result_type(request.headers),
    )


def _response(
    body: BatchBody, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    all_headers = {} if body.ended else {"Retry-After": str(poll_after_s(body.created_at))}
    all_headers |= headers or {}
    return Response(body.model_dump_json(), status, all_headers, "application/json")
