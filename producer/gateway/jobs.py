"""Routes of single jobs: submit, get and cancel.

Nearly all requests use these routes. They take the request itself instead of dependencies, because
resolving those would take a quarter of the time of a submission.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response

from ..aio.client import AsyncJob
from ..contract import State
from ..errors import ConnectionFailed, IdTaken, InvalidInput
from ..job import Result
from ..ledger.ids import new_id
from . import image_refs, prefer_header
from .auth import request_tenant
from .job_responses import JobBody, JobFields, job_url
from .logs import LOGGER
from .metadata import RequestMetadata
from .openapi import job_body, json_responses, problem_responses
from .problems import Problem
from .request_body import media_type, parse_job, reject_compressed, run_if_large
from .requests import JobRequestBase
from .responses import poll_after_s
from .shutdown import wait_unless
from .state import Gateway, gateway_of
from .tenants import Tenant, path_id

router = APIRouter(tags=["jobs"])

_PREFER: Final[dict[str, Any]] = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=N`: wait up to N seconds for the end of the job (long polling).",
    "schema": {"type": "string"},
    "example": "wait=10",
}
_SUBMISSION: Final[dict[str, Any]] = {"requestBody": job_body(), "parameters": [_PREFER]}
_SUBMIT_RESPONSES: Final = json_responses(
    {200: "The job has ended", 202: "The job is submitted; poll its `urls.get`"},
    JobBody,
    *("Location", "Retry-After", "Preference-Applied"),
)
_STATUS_RESPONSES: Final = json_responses(
    {200: "The job"}, JobBody, "Retry-After", "Preference-Applied"
)

#: State and result of a job that was just submitted.
_NEW: Final = (State.QUEUED, None)

JobId = Annotated[str, path_id("photo-7")]


@router.post(
    "/v1/jobs",
    summary="Submit a job",
    status_code=202,
    response_class=Response,
    responses={**_SUBMIT_RESPONSES, **problem_responses(422)},
    openapi_extra=_SUBMISSION,
)
async def create_job(request: Request) -> Response:
    """Submit a question about an image.

    With `Prefer: wait=N` the response contains the output if the job ends within N seconds. A
    failed job is a 200 with an `error`: the HTTP status describes the request.
    """
    gateway, public_id = gateway_of(request), new_id()
    job, metadata = await _submit(request, public_id)
    gateway.metadata_cache.put(job.id, metadata)
    wait_s = _wait_s(request, gateway)
    # A new job has no result to read unless the request waits for it.
    snapshot = _NEW if wait_s is None else await _read_new(job, wait_s, gateway)
    return _submit_response(JobFields.of(public_id, metadata, *snapshot), wait_s)


@router.put(
    "/v1/jobs/{id}",
    summary="Submit a job under an id that you choose",
    status_code=202,
    response_class=Response,
    responses={**_SUBMIT_RESPONSES, **problem_responses(409, 422)},
    openapi_extra=_SUBMISSION,
)
async def put_job(public_id: JobId, request: Request) -> Response:
    """Submit a job idempotently, so that a request whose response was lost can be repeated.

    The same request returns the existing job; a different one under the same id is a 409.
    """
    gateway = gateway_of(request)
    job, new_metadata = await _submit(request, public_id)
    # The metadata of the first request remains.
    metadata = await gateway.metadata_cache.of(job) or new_metadata
    wait_s = _wait_s(request, gateway)
    snapshot = await _read(job, wait_s, gateway)
    return _submit_response(JobFields.of(public_id, metadata, *snapshot), wait_s)


@router.head("/v1/jobs/{id}", include_in_schema=False)
@router.get(
    "/v1/jobs/{id}",
    summary="Get a job",
    response_class=Response,
    responses={**_STATUS_RESPONSES, **problem_responses(404)},
    openapi_extra={"parameters": [_PREFER]},
)
async def get_job(public_id: JobId, request: Request) -> Response:
    """Return the status of a job and its output, which is stored for a day."""
    gateway = gateway_of(request)
    job, metadata = await _find_job(gateway, request_tenant(request), public_id)
    wait_s = _wait_s(request, gateway)
    snapshot = await _read(job, wait_s, gateway)
    return _status_response(JobFields.of(public_id, metadata, *snapshot), wait_s)


@router.delete(
    "/v1/jobs/{id}",
    summary="Cancel a job",
    response_class=Response,
    responses={**_STATUS_RESPONSES, **problem_responses(404)},
)
async def cancel_job(public_id: JobId, request: Request) -> Response:
    """Cancel a job; one that has ended remains unchanged."""
    job, metadata = await _find_job(gateway_of(request), request_tenant(request), public_id)
    body = JobFields.of(public_id, metadata, *await job.look())
    if not body.ended:
        await job.cancel()
        body = JobFields.of(public_id, metadata, *await job.look())
    return _status_response(body, None)


@asynccontextmanager
async def _parsed(request: Request) -> AsyncIterator[JobRequestBase]:
    """Parse a request, whose body counts as buffered within the block; raises Problem.

    FastAPI does not parse the body, because it would convert types.
    """
    reject_compressed(request.headers)
    kind = media_type(request.headers)
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(
            "unsupported_media_type", f"Content-Type {kind!r:.100}: application/json is required"
        )
    reader, tenant = gateway_of(request).body_reader, request_tenant(request)
    async with reader.read(tenant.name, request.stream()) as body:
        yield await run_if_large(len(body), parse_job, body)


async def _submit(request: Request, public_id: str) -> tuple[AsyncJob[Any], RequestMetadata]:
    """Read and submit a request; its body is released afterwards."""
    gateway, tenant = gateway_of(request), request_tenant(request)
    async with _parsed(request) as job_request:
        metadata = RequestMetadata.now(job_request.contract_task)
        return await _enqueue(gateway, tenant, public_id, metadata, job_request), metadata


async def _enqueue(
    gateway: Gateway,
    tenant: Tenant,
    public_id: str,
    metadata: RequestMetadata,
    job_request: JobRequestBase,
) -> AsyncJob[Any]:
    item = job_request.item()
    if (image := item.get("image")) is not None:
        item["image"] = await run_if_large(
            len(image),
            image_refs.resolve,
            image,
            gateway.settings.max_image_bytes,
            private=gateway.allows_private_images(tenant),
        )
    await gateway.webhook_guard.check(job_request.webhook, tenant.name)
    try:
        return await gateway.client.submit(
            item,
            metadata.task,
            job_id=tenant.job_id(public_id),
            submitter=tenant.name,
            note=metadata.encode(),
            webhook=job_request.webhook or "",
            deadline_s=job_request.deadline_s,
            **job_request.given_options(),
        )
    except IdTaken:
        detail = f"id={public_id!r}: a different job has this id; choose another id"
        raise Problem("id_taken", detail) from None


async def _read_new(
    job: AsyncJob[Any], wait_s: int, gateway: Gateway
) -> tuple[State, Result | None]:
    """Wait for a new job. If Redis fails meanwhile, the response must still contain its id."""
    try:
        return await _read(job, wait_s, gateway)
    except ConnectionFailed as error:
        LOGGER.warning("%s", error)
        return _NEW


async def _read(
    job: AsyncJob[Any], wait_s: float | None, gateway: Gateway
) -> tuple[State, Result | None]:
    """Return the state and result of a job; a shutdown of the process ends the wait early."""
    if not wait_s:
        return await job.look()
    return await wait_unless(gateway.stopping, job.look(wait_s)) or await job.look()


async def _find_job(
    gateway: Gateway, tenant: Tenant, public_id: str
) -> tuple[AsyncJob[Any], RequestMetadata]:
    """Return a job of a tenant; raises Problem if there is none."""
    try:
        job = gateway.client.job(tenant.job_id(public_id))
    except InvalidInput:
        raise _not_found(public_id) from None
    metadata = await gateway.metadata_cache.of(job)
    if metadata is None:
        raise _not_found(public_id)
    return job, metadata


def _not_found(public_id: str) -> Problem:
    return Problem("not_found", f"There is no job {public_id!r:.100}")


def _wait_s(request: Request, gateway: Gateway) -> int | None:
    return prefer_header.wait_s(
        request.headers.getlist("prefer"), gateway.settings.gateway_max_wait_s
    )


def _submit_response(body: JobFields, wait_s: int | None) -> Response:
    status = 200 if body.ended else 202
    return _response(body, wait_s, status, {"Location": job_url(body.id)})


def _status_response(body: JobFields, wait_s: int | None) -> Response:
    return _response(body, wait_s, 200, {})


def _response(
    body: JobFields, wait_s: int | None, status: int, headers: dict[str, str]
) -> Response:
    if not body.ended:
        headers["Retry-After"] = str(poll_after_s(body.created_at))
    if wait_s is not None:
        headers["Preference-Applied"] = f"wait={wait_s}"
    return Response(body.model_dump_json(), status, headers, "application/json")
