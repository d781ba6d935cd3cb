"""Single jobs: submit, look, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Request, Response

from ..aio import AsyncJob
from ..contract import State
from ..errors import IdTaken, InvalidInput
from ..ids import new_id
from ..job import Result
from . import prefer, references
from .access import OUTER_ID, Caller, CallerDependency
from .bodies import JobBody, job_url
from .intake import INTAKE, any_size, check_identity, media_type, work
from .notes import Noted
from .openapi import answers, job_body, problems
from .parsing import parse_job
from .parts import Gateway, GatewayDependency
from .problems import Problem
from .requests import Asked

router = APIRouter(tags=["jobs"])

#: Seconds after which it is worth looking at an open job again.
LOOK_AGAIN_S: Final = 1

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


async def _read_job(request: Request) -> AsyncIterator[Asked]:
    check_identity(request.headers)
    kind = media_type(request.headers)
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(
            "unsupported_media_type", f"Content-Type {kind!r:.100}: application/json is needed"
        )
    # Its size has been seen to, as that of every body.
    async with INTAKE.whole(request.stream(), any_size) as body:
        yield await work(len(body), parse_job, body)


#: What is asked. FastAPI is not given the body: it would guess where nothing is to be guessed.
AskedDependency = Annotated[Asked, Depends(_read_job)]
JobId = Annotated[
    str,
    Path(
        alias="id",
        description="1 to 64 letters, digits, `-`, `_` and `.`",
        json_schema_extra={"pattern": f"^{OUTER_ID}$"},
        examples=["photo-7"],
    ),
]


@router.post(
    "/v1/jobs",
    summary="Submit a job",
    status_code=202,
    response_class=Response,
    responses={**_SUBMITTED, **problems(422)},
    openapi_extra=_SUBMITTING,
)
async def create_job(
    request: Request, asked: AskedDependency, caller: CallerDependency, gateway: GatewayDependency
) -> Response:
    """Ask something about an image.

    With `Prefer: wait=N` the answer comes at once if there is one within N seconds. A job that
    failed is answered with 200 and has an `error`: HTTP statuses are about the request.
    """
    outer_id, noted = new_id(), Noted.now(asked.asks)
    job = await _submit(gateway, caller, outer_id, noted, asked)
    gateway.notes.put(job.id, noted)
    waited = _wait_s(request, gateway)
    # It is new: without a wait there is nothing to look at yet.
    look = (State.QUEUED, None) if waited is None else await _look(job, waited, gateway)
    return _submitted(JobBody.of(outer_id, noted, *look), waited)


@router.put(
    "/v1/jobs/{id}",
    summary="Submit a job under an id of your own",
    status_code=202,
    response_class=Response,
    responses={**_SUBMITTED, **problems(409, 422)},
    openapi_extra=_SUBMITTING,
)
async def put_job(
    outer_id: JobId,
    request: Request,
    asked: AskedDependency,
    caller: CallerDependency,
    gateway: GatewayDependency,
) -> Response:
    """Idempotent: the same again is the same job, as it stands then; something else is a 409.

    So a request whose answer was lost can be repeated.
    """
    mine = Noted.now(asked.asks)
    job = await _submit(gateway, caller, outer_id, mine, asked)
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
async def get_job(
    outer_id: JobId, request: Request, caller: CallerDependency, gateway: GatewayDependency
) -> Response:
    """Where it stands, and its answer once there is one; that is kept for a day."""
    job, noted = await _known(gateway, caller, outer_id)
    waited = _wait_s(request, gateway)
    return _looked_at(JobBody.of(outer_id, noted, *await _look(job, waited, gateway)), waited)


@router.delete(
    "/v1/jobs/{id}",
    summary="Cancel a job",
    response_class=Response,
    responses={**_LOOKED_AT, **problems(404)},
)
async def cancel_job(
    outer_id: JobId, caller: CallerDependency, gateway: GatewayDependency
) -> Response:
    """Say that nobody wants the answer; a job that has ended stays as it is."""
    job, noted = await _known(gateway, caller, outer_id)
    body = JobBody.of(outer_id, noted, *await job.look())
    if not body.ended:
        await job.cancel()
        body = JobBody.of(outer_id, noted, *await job.look())
    return _looked_at(body, None)


async def _submit(
    gateway: Gateway, caller: Caller, outer_id: str, noted: Noted, asked: Asked
) -> AsyncJob[Any]:
    item = asked.item()
    if (image := item.get("image")) is not None:
        most = gateway.settings.gateway_max_image_mb * 2**20
        item["image"] = await work(len(image), references.resolve, image, most)
    try:
        return await gateway.client.submit(
            item,
            noted.task,
            job_id=caller.job(outer_id),
            submitter=caller.name,
            note=noted.encode(),
            webhook=asked.webhook or "",
            deadline_s=asked.deadline_s,
            **asked.given_options(),
        )
    except IdTaken:
        about = f"id={outer_id!r}: something else was asked under this id: choose another one"
        raise Problem("id_taken", about) from None


async def _look(
    job: AsyncJob[Any], wait_s: float | None, gateway: Gateway
) -> tuple[State, Result | None]:
    """Where it stands; who waits is told at once when this process is to end."""
    if not wait_s:
        return await job.look()
    looking = asyncio.create_task(job.look(wait_s))
    ending = asyncio.create_task(gateway.stopping.wait())
    try:
        await asyncio.wait((looking, ending), return_when=asyncio.FIRST_COMPLETED)
        return await (looking if looking.done() else job.look())
    finally:
        looking.cancel()
        ending.cancel()


async def _known(gateway: Gateway, caller: Caller, outer_id: str) -> tuple[AsyncJob[Any], Noted]:
    """A job of this caller's; raises Problem where there is none."""
    try:
        job = gateway.client.job(caller.job(outer_id))
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
