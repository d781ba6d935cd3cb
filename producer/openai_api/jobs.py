"""Jobs of this API: they are submitted as every job of the gateway, and their ends awaited."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request

from ..aio.client import AsyncJob
from ..contract import State
from ..gateway.auth import request_tenant
from ..gateway.job_submission import read_new_job, submit_job
from ..gateway.metadata import RequestMetadata
from ..gateway.problems import Problem, shutting_down
from ..gateway.request_body import (
    is_json,
    media_type,
    parse_task_fields,
    reject_compressed,
    run_if_large,
)
from ..gateway.state import Gateway, gateway_of
from ..gateway.task_fields import TaskFields
from ..gateway.tenants import Tenant
from ..job import Result
from ..ledger.ids import new_id
from .errors import OpenAIError, errors_of
from .parameters import parse_object

#: Parameters from which the fields of a job come.
_PARAMS: Final = {"image": "messages", "question": "messages", "history": "messages"}


@dataclass(frozen=True, slots=True)
class AwaitedJob:
    """A job whose end a request awaits."""

    public_id: str
    job: AsyncJob[Any]
    metadata: RequestMetadata


@asynccontextmanager
async def read_parameters(request: Request) -> AsyncIterator[dict[str, Any]]:
    """Read the parameters of a request, whose body counts as buffered within the block."""
    reject_compressed(request.headers)
    kind = media_type(request.headers)
    if not is_json(kind):
        detail = f"Content-Type {kind!r:.100}: application/json is required"
        raise Problem("unsupported_media_type", detail)
    reader, tenant = gateway_of(request).body_reader, request_tenant(request)
    async with reader.read(tenant.name, request.stream()) as body:
        yield await run_if_large(len(body), parse_object, body)


async def submit(
    gateway: Gateway,
    tenant: Tenant,
    model: type[TaskFields],
    fields: dict[str, Any],
    *,
    param: str,
    max_tokens_name: str = "max_tokens",
) -> AwaitedJob:
    """Submit a job of a task's fields; `param` names their source in errors."""
    public_id = new_id()
    params = {**dict.fromkeys(_PARAMS, param), "text": param, "max_new_tokens": max_tokens_name}
    with errors_of(params, param):
        body = json.dumps(fields).encode()
        parsed = await run_if_large(len(body), parse_task_fields, model, body)
        job, metadata = await submit_job(gateway, tenant, public_id, parsed)
    gateway.metadata_cache.put(job.id, metadata)
    return AwaitedJob(public_id, job, metadata)


async def output_of(gateway: Gateway, submitted: AwaitedJob) -> Result:
    """Wait for the output of a job; raises OpenAIError.

    A job that does not end in time is cancelled, because nobody would read its output.
    """
    max_wait_s = gateway.settings.gateway_max_wait_s
    state, result = await read_new_job(submitted.job, max_wait_s, gateway)
    if result is not None and result.error is not None:
        raise OpenAIError.of_job(result.error.code.value, result.error.message)
    if result is not None and state is State.DONE:
        return result
    if state is State.CANCELLED:
        raise OpenAIError.of_job("cancelled", "The job was cancelled")
    if state not in (State.QUEUED, State.RUNNING):
        raise OpenAIError.of_job("expired", "The result of the job has expired")
    await submitted.job.cancel()
    if gateway.stopping.is_set():
        raise shutting_down()
    raise OpenAIError(
        f"There was no result within {max_wait_s} s (BLIPLINE_GATEWAY_MAX_WAIT_S), and the job is "
        "cancelled. Is a worker running? For long waits, use POST /v1/jobs",
        code="wait_timeout",
        status=504,
    )
