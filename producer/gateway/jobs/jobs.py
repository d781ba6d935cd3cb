"""Routes of single jobs: submit, get and cancel.

Nearly all requests use these routes. They take the request itself instead of dependencies, because
resolving those would take a quarter of the time of a submission.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from ...aio.handles import AsyncJob
from ...ledger.ids import new_id
from ..access.auth import request_tenant
from ..access.tenants import path_id
from ..http.problems import Problem
from ..openapi.openapi import PREFER, SUBMIT_RESPONSES, json_responses, problem_responses
from ..openapi.openapi_bodies import job_body
from ..schemas.job_responses import JobBody, JobFields
from ..schemas.metadata import RequestMetadata
from ..schemas.queries import DeleteQuery
from ..schemas.task_fields import TaskFields
from ..state import gateway_of
from .idempotency import IDEMPOTENCY_KEY, idempotent_id
from .job_submission import (
    find_job,
    job_response,
    preferred_wait_s,
    read_job,
    submit_job,
    submit_response,
)
from .request_body import is_json, media_type, parse_job, reject_compressed, run_if_large

router = APIRouter(tags=["jobs"])

_SUBMISSION: Final[dict[str, Any]] = {"requestBody": job_body(), "parameters": [PREFER]}
_STATUS_RESPONSES: Final = json_responses(
    {200: "The job"}, JobBody, "Retry-After", "Preference-Applied"
)

JobId = Annotated[str, path_id("photo-7")]


@router.post(
    "/v1/jobs",
    summary="Submit a job",
    status_code=202,
    response_class=Response,
    responses={**SUBMIT_RESPONSES, **problem_responses(409, 422)},
    openapi_extra={**_SUBMISSION, "parameters": [PREFER, IDEMPOTENCY_KEY]},
)
async def create_job(request: Request) -> Response:
    """Submit a question about an image.

    With `Prefer: wait=N` the response contains the output if the job ends within N seconds. A
    failed job is a 200 with an `error`: the HTTP status describes the request.
    """
    chosen_id = idempotent_id(request)
    public_id = chosen_id or new_id()
    job, metadata = await _submit(request, public_id)
    return await submit_response(request, public_id, job, metadata, is_new=chosen_id is None)


@router.put(
    "/v1/jobs/{id}",
    summary="Submit a job under an id that you choose",
    status_code=202,
    response_class=Response,
    responses={**SUBMIT_RESPONSES, **problem_responses(409, 422)},
    openapi_extra=_SUBMISSION,
)
async def put_job(public_id: JobId, request: Request) -> Response:
    """Submit a job idempotently, so that a request whose response was lost can be repeated.

    The same request returns the existing job; a different one under the same id is a 409.
    """
    job, metadata = await _submit(request, public_id)
    return await submit_response(request, public_id, job, metadata, is_new=False)


@router.head("/v1/jobs/{id}", include_in_schema=False)
@router.get(
    "/v1/jobs/{id}",
    summary="Get a job",
    response_class=Response,
    responses={**_STATUS_RESPONSES, **problem_responses(404)},
    openapi_extra={"parameters": [PREFER]},
)
async def get_job(public_id: JobId, request: Request) -> Response:
    """Return the status of a job and its output, which is stored for a day."""
    gateway = gateway_of(request)
    job, metadata = await find_job(gateway, request_tenant(request), public_id)
    wait_s = preferred_wait_s(request, gateway)
    progress = await read_job(job, wait_s, gateway)
    return job_response(JobFields.of(public_id, metadata, progress), wait_s, 200, {})


@router.delete(
    "/v1/jobs/{id}",
    summary="Cancel a job, or erase it",
    response_class=Response,
    responses={
        **_STATUS_RESPONSES,
        204: {"description": "The job is erased"},
        **problem_responses(404, 422),
    },
)
async def cancel_job(
    public_id: JobId, request: Request, query: Annotated[DeleteQuery, Query()]
) -> Response:
    """Cancel a job; one that has ended remains unchanged.

    With `erase=true`, nothing of it remains: its request, metadata and output are deleted, and a
    worker that runs it stops.
    """
    gateway = gateway_of(request)
    job, metadata = await find_job(gateway, request_tenant(request), public_id)
    if query.erase:
        await job.delete()
        gateway.metadata_cache.drop(job.id)
        return Response(status_code=204)
    body = JobFields.of(public_id, metadata, await job.progress())
    if not body.ended:
        await job.cancel()
        body = JobFields.of(public_id, metadata, await job.progress())
    return job_response(body, None, 200, {})


@asynccontextmanager
async def _parsed(request: Request) -> AsyncIterator[TaskFields]:
    """Parse a request, whose body counts as buffered within the block; raises Problem.

    FastAPI does not parse the body, because it would convert types.
    """
    reject_compressed(request.headers)
    kind = media_type(request.headers)
    if not is_json(kind):
        raise Problem(
            "unsupported_media_type", f"Content-Type {kind!r:.100}: application/json is required"
        )
    reader, tenant = gateway_of(request).body_reader, request_tenant(request)
    async with reader.read(tenant.name, request.stream()) as body:
        yield await run_if_large(len(body), parse_job, body)


async def _submit(request: Request, public_id: str) -> tuple[AsyncJob[Any], RequestMetadata]:
    """Read and submit a request; its body is released afterwards."""
    gateway, tenant = gateway_of(request), request_tenant(request)
    async with _parsed(request) as fields:
        return await submit_job(gateway, tenant, public_id, fields)
