"""Routes of predictions: create, get and cancel."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError

from ..contract import State
from ..gateway.access.auth import TenantDependency, request_tenant
from ..gateway.http.problems import Problem
from ..gateway.jobs.awaited_jobs import rename_fields, submit_fields
from ..gateway.jobs.job_submission import find_job, preferred_wait_s, read_new_job
from ..gateway.jobs.json_body import read_object
from ..gateway.schemas.task_fields import TASK_MODELS, TaskFields
from ..gateway.schemas.text_fields import OPTION_NAMES
from ..gateway.state import Gateway, GatewayDependency, gateway_of
from ..results.result import JobProgress
from .prediction import MODELS, OWNER, is_terminal, prediction_body

router = APIRouter()

#: Fields of a request; `stream` has no effect, because predictions have no stream.
_KNOWN: Final = frozenset({"input", "stream", "version"})
_MODEL_NAMES: Final = ", ".join(f"{OWNER}/{name}" for name in MODELS)


@router.post("/replicate/v1/predictions", include_in_schema=False)
async def create_prediction(request: Request) -> Response:
    """Submit the job of a version, which is the name of a model, with or without its owner."""
    return await _create(request, None)


@router.post("/replicate/v1/models/{owner}/{name}/predictions", include_in_schema=False)
async def create_prediction_of_model(request: Request, owner: str, name: str) -> Response:
    """Submit the job of a model."""
    return await _create(request, f"{owner}/{name}")


@router.get("/replicate/v1/predictions/{id}", include_in_schema=False)
async def get_prediction(id: str, tenant: TenantDependency, gateway: GatewayDependency) -> Response:
    """Return a job of the name, whichever route has submitted it."""
    job, metadata = await find_job(gateway, tenant, id)
    return _response(prediction_body(id, metadata, await job.progress()))


@router.post("/replicate/v1/predictions/{id}/cancel", include_in_schema=False)
async def cancel_prediction(
    id: str, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Cancel a job; one that has ended remains unchanged."""
    job, metadata = await find_job(gateway, tenant, id)
    await job.cancel()
    return _response(prediction_body(id, metadata, await job.progress()))


async def _create(request: Request, model_name: str | None) -> Response:
    gateway, tenant = gateway_of(request), request_tenant(request)
    async with read_object(request) as body:
        if unknown := sorted(body.keys() - _KNOWN):
            raise Problem("option_invalid", f"{unknown[0]:.100}: is not supported; omit it")
        model = _model(model_name or body.get("version"))
        given = body.get("input", {})
        if not isinstance(given, dict):
            raise Problem("option_invalid", "input: must be an object")
        try:
            submitted = await submit_fields(gateway, tenant, model, _fields(given))
        except RequestValidationError as error:
            raise _input_error(error) from None
    wait_s = _wait_s(request, gateway)
    progress = await read_new_job(submitted.job, wait_s, gateway)
    ended = is_terminal(progress.state)
    # The library waits for a prediction after `Prefer: wait` only if it has not started.
    shown = progress if ended else JobProgress(State.QUEUED)
    prediction = prediction_body(submitted.public_id, submitted.metadata, shown, given)
    return _response(prediction, 201 if ended or wait_s is None else 202)


def _model(name: object) -> type[TaskFields]:
    """Return the fields of the task of a model; raises Problem."""
    owner, _, short = str(name).rpartition("/")
    if owner not in ("", OWNER) or short not in MODELS:
        detail = f"There is no model {name!r:.100}; choose one of {_MODEL_NAMES}"
        raise Problem("not_found", detail)
    return TASK_MODELS[MODELS[short]]


def _fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a job; the generation options are inputs like the others."""
    fields = {name: value for name, value in given.items() if name not in OPTION_NAMES}
    options = {name: value for name, value in given.items() if name in OPTION_NAMES}
    return {**fields, "options": options} if options else fields


def _input_error(error: RequestValidationError) -> RequestValidationError:
    """Return the error with the names of the inputs."""
    details = rename_fields(error, {}).errors()
    return RequestValidationError(
        [{**detail, "loc": ("body", "input", *detail["loc"][1:])} for detail in details]
    )


def _wait_s(request: Request, gateway: Gateway) -> int | None:
    """Return the seconds to wait; `Prefer: wait` alone means as long as the gateway allows."""
    if request.headers.get("prefer", "").strip().lower() == "wait":
        return gateway.settings.gateway_max_wait_s
    return preferred_wait_s(request, gateway)


def _response(body: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(body), status, media_type="application/json")
