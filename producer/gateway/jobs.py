"""Single jobs: submit, look, cancel.

Nearly all requests are of these routes. They ask for what they need themselves: FastAPI, asked to
provide it as dependencies, would take a quarter of the time of a submission.
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
from . import image_refs, prefer
from .auth import caller_of
from .logs import LOGGER
from .metadata import RequestMetadata
from .openapi import answers, job_body, problems
from .problems import Problem
from .request_body import check_identity, media_type, parse_job, run_if_large
from .requests import JobRequestBase
from .responses import LOOK_AGAIN_S, JobBody, job_url
from .shutdown import wait_unless
from .state import Gateway, gateway_of
from .tenants import Tenant, path_id

router = APIRouter(tags=["jobs"])

_WAIT: Final[dict[str, Any]] = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=N`: hold the request for N seconds at most, or until the job has ended.",
    "schema": {"type": "string"},
    "example": "wait=10",
}
_SUBMITTING: Final[dict[str, Any]] = {"requestBody": job_body(), "parameters": [_WAIT]}
_SUBMITTED: Final = answers(
    {200: "It has ended", 202: "It is submitted; look at its `urls.get` later"},
    JobBody,
    *("Location", "Retry-After", "Preference-Applied"),
)
_LOOKED_AT: Final = answers({200: "As it stands"}, JobBody, "Retry-After", "Preference-Applied")


@asynccontextmanager
async def _asked(request: Request) -> AsyncIterator[JobRequestBase]:
    """What is asked, whose body counts as held within the block; raises Problem.

    FastAPI is not given the body: it would guess where nothing is to be guessed.
    """
    check_identity(request.headers)
    kind = media_type(request.headers)
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(
            "unsupported_media_type", f"Content-Type {kind!r:.100}: application/json is needed"
        )
    intake, name = gateway_of(request).intake, caller_of(request).name
    async with intake.whole(name, request.stream()) as body:
        yield await run_if_large(len(body), parse_job, body)


#: How a job stands that was just submitted.
_NEW: Final = (State.QUEUED, None)

JobId = Annotated[str, path_id("photo-7")]


@router.post(
    "/v1/jobs",
    summary="Submit a job",
    status_code=202,
    response_class=Response,
    responses={**_SUBMITTED, **problems(422)},
    openapi_extra=_SUBMITTING,
)
async def create_job(request: Request) -> Response:
    """Ask something about an image.

    With `Prefer: wait=N` the answer comes at once if there is one within N seconds. A job that
    failed is answered with 200 and has an `error`: HTTP statuses are about the request.
    """
    gateway, outer_id = gateway_of(request), new_id()
    job, noted = await _submit(request, outer_id)
    gateway.notes.put(job.id, noted)
    waited = _wait_s(request, gateway)
    # It is new: without a wait there is nothing to look at yet.
    look = _NEW if waited is None else await _look_at_new(job, waited, gateway)
    return _submitted(JobBody.of(outer_id, noted, *look), waited)


@router.put(
    "/v1/jobs/{id}",
    summary="Submit a job under an id of your own",
    status_code=202,
    response_class=Response,
    responses={**_SUBMITTED, **problems(409, 422)},
    openapi_extra=_SUBMITTING,
)
async def put_job(outer_id: JobId, request: Request) -> Response:
    """Idempotent: the same again is the same job, as it stands then; something else is a 409.

    So a request whose answer was lost can be repeated.
    """
    gateway = gateway_of(request)
    job, mine = await _submit(request, outer_id)
    # The first request's stays.
    noted = await gateway.notes.of(job) or mine
    waited = _wait_s(request, gateway)
    return _submitted(JobBody.of(outer_id, noted, *await _look(job, waited, gateway)), waited)


@router.head("/v1/jobs/{id}", include_in_schema=False)
@router.get(
    "/v1/jobs/{id}",
    summary="Look at a job",
    response_class=Response,
    responses={**_LOOKED_AT, **problems(404)},
    openapi_extra={"parameters": [_WAIT]},
)
async def get_job(outer_id: JobId, request: Request) -> Response:
    """Where it stands, and its answer once there is one; that is kept for a day."""
    gateway = gateway_of(request)
    job, noted = await _known(gateway, caller_of(request), outer_id)
    waited = _wait_s(request, gateway)
    return _looked_at(JobBody.of(outer_id, noted, *await _look(job, waited, gateway)), waited)


@router.delete(
    "/v1/jobs/{id}",
    summary="Cancel a job",
    response_class=Response,
    responses={**_LOOKED_AT, **problems(404)},
)
async def cancel_job(outer_id: JobId, request: Request) -> Response:
    """Say that nobody wants the answer; a job that has ended stays as it is."""
    job, noted = await _known(gateway_of(request), caller_of(request), outer_id)
    body = JobBody.of(outer_id, noted, *await job.look())
    if not body.ended:
        await job.cancel()
        body = JobBody.of(outer_id, noted, *await job.look())
    return _looked_at(body, None)


async def _submit(request: Request, outer_id: str) -> tuple[AsyncJob[Any], RequestMetadata]:
    """Submit what a request asks, which is held no longer than that."""
    gateway, caller = gateway_of(request), caller_of(request)
    async with _asked(request) as asked:
        noted = RequestMetadata.now(asked.contract_task)
        return await _enter(gateway, caller, outer_id, noted, asked), noted


async def _enter(
    gateway: Gateway, caller: Tenant, outer_id: str, noted: RequestMetadata, asked: JobRequestBase
) -> AsyncJob[Any]:
    item = asked.item()
    if (image := item.get("image")) is not None:
        max_bytes = gateway.settings.max_image_bytes
        item["image"] = await run_if_large(len(image), image_refs.resolve, image, max_bytes)
    try:
        return await gateway.client.submit(
            item,
            noted.task,
            job_id=caller.job_id(outer_id),
            submitter=caller.name,
            note=noted.encode(),
            webhook=asked.webhook or "",
            deadline_s=asked.deadline_s,
            **asked.given_options(),
        )
    except IdTaken:
        about = f"id={outer_id!r}: something else was asked under this id: choose another one"
        raise Problem("id_taken", about) from None


async def _look_at_new(
    job: AsyncJob[Any], wait_s: int, gateway: Gateway
) -> tuple[State, Result | None]:
    """Where it stands. Whatever becomes of Redis, the job is in, and its caller must hear so."""
    try:
        return await _look(job, wait_s, gateway)
    except ConnectionFailed as error:
        LOGGER.warning("%s", error)
        return _NEW


async def _look(
    job: AsyncJob[Any], wait_s: float | None, gateway: Gateway
) -> tuple[State, Result | None]:
    """Where it stands; who waits is told at once when this process is to end."""
    if not wait_s:
        return await job.look()
    return await wait_unless(gateway.stopping, job.look(wait_s)) or await job.look()


async def _known(
    gateway: Gateway, caller: Tenant, outer_id: str
) -> tuple[AsyncJob[Any], RequestMetadata]:
    """A job of this caller's; raises Problem where there is none."""
    try:
        job = gateway.client.job(caller.job_id(outer_id))
    except InvalidInput:
        raise _unknown(outer_id) from None
    noted = await gateway.notes.of(job)
    if noted is None:
        raise _unknown(outer_id)
    return job, noted


def _unknown(outer_id: str) -> Problem:
    return Problem("not_found", f"There is no job {outer_id!r:.100}")


def _wait_s(request: Request, gateway: Gateway) -> int | None:
    return prefer.wait_s(request.headers.getlist("prefer"), gateway.settings.gateway_max_wait_s)


def _submitted(body: JobBody, waited: int | None) -> Response:
    status = 200 if body.ended else 202
    return _answer(body, waited, status, {"Location": job_url(body.id)})


def _looked_at(body: JobBody, waited: int | None) -> Response:
    return _answer(body, waited, 200, {})


def _answer(body: JobBody, waited: int | None, status: int, headers: dict[str, str]) -> Response:
    if not body.ended:
        headers["Retry-After"] = str(LOOK_AGAIN_S)
    if waited is not None:
        headers["Preference-Applied"] = f"wait={waited}"
    return Response(body.model_dump_json(), status, headers, "application/json")
