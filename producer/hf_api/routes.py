"""Routes of this API: one for all tasks, one for each, and those that describe the endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError

from ..gateway.access.auth import request_tenant
from ..gateway.access.tenants import Tenant
from ..gateway.http.problems import Problem
from ..gateway.jobs.awaited_jobs import (
    AwaitedJob,
    outputs_of,
    rename_fields,
    submit_all,
    submit_fields,
)
from ..gateway.jobs.job_submission import preferred_wait_s
from ..gateway.schemas.job_responses import job_url
from ..gateway.state import Gateway, GatewayDependency, gateway_of
from ..gateway.status import readyz
from .payload import read_payload
from .tasks import TASKS, TaskJob

router = APIRouter()

_INFO: Final = {"model_id": "blipline", "tasks": list(TASKS)}


@router.get("/hf/health", include_in_schema=False)
async def health(gateway: GatewayDependency) -> dict[str, str | int]:
    """Return 200 if the gateway can accept requests."""
    return await readyz(gateway)


@router.get("/hf/info", include_in_schema=False)
async def info() -> dict[str, Any]:
    """Describe the endpoint."""
    return _INFO


@router.post("/hf", include_in_schema=False)
async def run_any_task(request: Request) -> Response:
    """Run the task to which the body belongs."""
    return await _run(request, None)


@router.post("/hf/{task}", include_in_schema=False)
async def run_task(task: str, request: Request) -> Response:
    """Run a task."""
    if task not in TASKS:
        detail = f"There is no task {task!r:.100}; choose one of {', '.join(TASKS)}"
        raise Problem("not_found", detail)
    return await _run(request, task)


async def _run(request: Request, name: str | None) -> Response:
    gateway, tenant = gateway_of(request), request_tenant(request)
    async with read_payload(request) as payload:
        task = TASKS[name or payload.task_name()]
        # All are checked before the first is submitted.
        jobs = list(task.jobs(payload))
        submitted = await submit_all(_submit(gateway, tenant, job) for job in jobs)
    wait_s = preferred_wait_s(request, gateway)
    results = await outputs_of(gateway, submitted, wait_s)
    body = json.dumps(task.output(payload, results))
    return Response(body, headers=_headers(submitted), media_type="application/json")


async def _submit(gateway: Gateway, tenant: Tenant, job: TaskJob) -> AwaitedJob:
    try:
        return await submit_fields(gateway, tenant, job.model, job.fields, job.image)
    except RequestValidationError as error:
        raise rename_fields(error, job.names) from None


def _headers(submitted: list[AwaitedJob]) -> Mapping[str, str]:
    """Return the URL of the job of a request that has a single one."""
    return {"Location": job_url(submitted[0].public_id)} if len(submitted) == 1 else {}
