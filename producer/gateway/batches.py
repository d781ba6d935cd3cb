"""Batches: upload, look, read, cancel."""

from __future__ import annotations

from typing import Annotated, Any, Final, get_args

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse

from ..aio.client import AsyncBatch
from ..errors import ConnectionFailed, InvalidInput, JobUnknown
from ..progress import Progress
from .auth import CallerDependency
from .batch_upload import Submitted, submit
from .logs import LOGGER
from .metadata import RequestMetadata
from .openapi import answers, batch_body, problems
from .problems import Problem
from .queries import BatchTerms, ErrorsQuery, ResultsQuery
from .responses import LOOK_AGAIN_S, BatchBody, BatchStatus, RetriedBody, batch_url
from .results import ResultStream, lines
from .state import Gateway, GatewayDependency
from .tenants import Tenant, path_id
from .uploads import Upload

router = APIRouter(tags=["batches"])

_RESULTS_EXAMPLE: Final = (
    '{"custom_id":"1","status":"ok","text":"a black cat","index":0,"cursor":1}\n'
    '{"custom_id":"2","status":"error","error":{"code":"image_unreachable","message":"…"},'
    '"index":1,"cursor":2}\n'
)


def _stream(about: str) -> dict[int | str, dict[str, Any]]:
    content = {"application/jsonl": {"schema": {"type": "string"}, "example": _RESULTS_EXAMPLE}}
    status = {
        "description": "Where the batch stood when this was asked",
        "schema": {"type": "string", "enum": list(get_args(BatchStatus))},
        "example": "running",
    }
    answer = {"description": about, "content": content, "headers": {"Blipline-Status": status}}
    return {200: answer, **problems(404, 422)}


BatchId = Annotated[str, path_id("photos")]
_LOOKED_AT: Final = {**answers({200: "As it stands"}, BatchBody, "Retry-After"), **problems(404)}


@router.post(
    "/v1/batches",
    summary="Submit a batch",
    status_code=202,
    response_class=Response,
    responses={
        **answers({202: "All of it is in"}, BatchBody, "Location", "Retry-After"),
        **problems(404, 409, 422),
    },
    openapi_extra={"requestBody": batch_body()},
)
async def create_batch(
    request: Request,
    terms: Annotated[BatchTerms, Query()],
    caller: CallerDependency,
    gateway: GatewayDependency,
) -> Response:
    """Submit any number of items; the body is read as fast as there is room for them.

    An item that cannot be used ends as an error in its place. With an `id` of your own the upload
    can be repeated if it broke off: nothing is submitted twice. Without one, what broke off is
    deleted. Where there is no room for long, a 429 says under which `id` to repeat the upload.
    """
    upload = Upload(request, gateway.settings)
    with gateway.upload_slots.one_more(caller.name):
        terms = terms.with_fields(await upload.fields())
        submitted = await submit(gateway, caller, terms, upload)
    body = await _body_of(gateway, caller, submitted)
    return _answer(body, 202, {"Location": batch_url(submitted.id)})


@router.head("/v1/batches/{id}", include_in_schema=False)
@router.get(
    "/v1/batches/{id}",
    summary="Look at a batch",
    response_class=Response,
    responses=_LOOKED_AT,
)
async def get_batch(
    outer_id: BatchId, caller: CallerDependency, gateway: GatewayDependency
) -> Response:
    """How many of its items have ended, how fast it goes, and how long it will take."""
    _, now, noted = await known(gateway, caller, outer_id)
    return _answer(BatchBody.of(outer_id, noted, now))


@router.get(
    "/v1/batches/{id}/results",
    summary="Read the results of a batch",
    response_class=StreamingResponse,
    responses=_stream("A line for each result"),
)
async def get_results(
    outer_id: BatchId,
    wanted: Annotated[ResultsQuery, Query()],
    caller: CallerDependency,
    gateway: GatewayDependency,
) -> StreamingResponse:
    """A line of JSON for each result, in the order of the items or in that in which they end.

    What is there now, or with `wait` everything to the end of the batch. Each line has the
    `cursor` to go on with after it, and the `index` of its item, from 0.
    """
    reading = ResultStream(
        wanted.cursor, wanted.limit, wanted.order == "completed", wait=wanted.wait
    )
    return await _read(gateway, caller, outer_id, reading)


@router.get(
    "/v1/batches/{id}/errors",
    summary="Read what failed of a batch",
    response_class=StreamingResponse,
    responses=_stream("A line for each item that failed"),
)
async def get_errors(
    outer_id: BatchId,
    wanted: Annotated[ErrorsQuery, Query()],
    caller: CallerDependency,
    gateway: GatewayDependency,
) -> StreamingResponse:
    """The lines of `results` that have an error, in the order of the items."""
    reading = ResultStream(wanted.cursor, wanted.limit, only_failed=True, wait=wanted.wait)
    return await _read(gateway, caller, outer_id, reading)


@router.post(
    "/v1/batches/{id}/cancel",
    summary="Cancel a batch",
    response_class=Response,
    responses=_LOOKED_AT,
)
async def cancel_batch(
    outer_id: BatchId, caller: CallerDependency, gateway: GatewayDependency
) -> Response:
    """What has not begun never runs; what has ended keeps its result."""
    batch, now, noted = await known(gateway, caller, outer_id)
    if not now.finished:
        await batch.cancel()
        now = await gateway.looks.progress(batch)
    return _answer(BatchBody.of(outer_id, noted, now))


@router.post(
    "/v1/batches/{id}/retry",
    summary="Ask again what failed",
    responses={**answers({200: "It is asked again"}, RetriedBody), **problems(404)},
)
async def retry_batch(
    outer_id: BatchId, caller: CallerDependency, gateway: GatewayDependency
) -> RetriedBody:
    """Items that succeeded keep their results; a batch that was cancelled goes on.

    Who asks for it while it is being done gets the same answer.
    """
    batch, _, _ = await known(gateway, caller, outer_id)
    return RetriedBody(items=await gateway.retries.get(batch.id, batch.retry_failed))


@router.delete(
    "/v1/batches/{id}",
    summary="Delete a batch",
    status_code=204,
    response_class=Response,
    responses={204: {"description": "It is gone"}, **problems(404)},
)
async def delete_batch(
    outer_id: BatchId, caller: CallerDependency, gateway: GatewayDependency
) -> Response:
    """Its results are gone, and what has not begun never runs."""
    batch, _, _ = await known(gateway, caller, outer_id)
    await batch.delete()
    return Response(status_code=204)


async def known(
    gateway: Gateway, caller: Tenant, outer_id: str
) -> tuple[AsyncBatch, Progress, RequestMetadata]:
    """A batch of this caller's, as it stands; raises Problem where there is none."""
    try:
        batch = gateway.client.batch(caller.batch_id(outer_id))
        now = await gateway.looks.progress(batch)
    except (InvalidInput, JobUnknown):
        raise _unknown(outer_id) from None
    if (noted := RequestMetadata.decode(now.note)) is None:
        raise _unknown(outer_id)
    return batch, now, noted


async def _body_of(gateway: Gateway, caller: Tenant, submitted: Submitted) -> BatchBody:
    """A batch that is in; whatever becomes of Redis, its caller must hear its id."""
    try:
        _, now, noted = await known(gateway, caller, submitted.id)
    except ConnectionFailed as error:
        LOGGER.warning("%s", error)
        total, noted = submitted.items, submitted.noted
        now = Progress(total, 0, 0, submitted=True, cancelled=False, task=noted.task)
    return BatchBody.of(submitted.id, noted, now)


def _unknown(outer_id: str) -> Problem:
    return Problem("not_found", f"There is no batch {outer_id!r:.100}, or it is no longer kept")


async def _read(
    gateway: Gateway, caller: Tenant, outer_id: str, reading: ResultStream
) -> StreamingResponse:
    batch, now, _ = await known(gateway, caller, outer_id)
    return StreamingResponse(
        lines(batch, reading, gateway.stopping),
        headers={"Blipline-Status": now.state.value},
        media_type="application/jsonl",
    )


def _answer(body: BatchBody, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    more = {} if body.ended else {"Retry-After": str(LOOK_AGAIN_S)}
    return Response(body.model_dump_json(), status, {**more, **(headers or {})}, "application/json")
