"""Jobs of other APIs' requests: submitted as every job of the gateway, and their ends awaited."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from fastapi.exceptions import RequestValidationError

from ...aio.handles import AsyncJob
from ...contract import State
from ...errors import BliplineError
from ...job import Result
from ...ledger.ids import new_id
from ..access.tenants import Tenant
from ..http.problems import STATUS, Problem, shutting_down
from ..images.images import check_image_bytes
from ..schemas.metadata import RequestMetadata
from ..schemas.task_fields import TaskFields
from ..state import Gateway
from .job_submission import read_new_job, submit_job
from .request_body import parse_task_fields, run_if_large

#: Maximum jobs of one request.
MAX_JOBS: Final = 256
#: Value of `image` while the bytes of the image are beside the fields.
IMAGE_BESIDE: Final = "blob:"


@dataclass(frozen=True, slots=True)
class AwaitedJob:
    """A job whose end a request awaits."""

    public_id: str
    job: AsyncJob[Any]
    metadata: RequestMetadata


class JobProblem(Problem):
    """The error of a job, as the response to the request that awaits it."""

    def __init__(self, code: str, detail: str) -> None:
        known = code if code in STATUS else "internal"
        # The job itself has been retried. OpenAI's libraries read the header: they must not submit
        # the job again and again.
        is_retryable = STATUS[known][0] == 503
        super().__init__(known, detail, headers={"x-should-retry": f"{is_retryable}".lower()})


async def submit_fields(
    gateway: Gateway,
    tenant: Tenant,
    model: type[TaskFields],
    fields: Mapping[str, Any],
    image: bytes | None = None,
) -> AwaitedJob:
    """Submit a job of a task's fields; `image` are the bytes of its image.

    Raises Problem, RequestValidationError, and the errors of the client.
    """
    public_id = new_id()
    if image is not None:
        check_image_bytes(image, gateway.settings.max_image_bytes)
        fields = {**fields, "image": IMAGE_BESIDE}
    body = json.dumps(fields).encode()
    parsed = await run_if_large(len(body), parse_task_fields, model, body)
    job, metadata = await submit_job(gateway, tenant, public_id, parsed, image)
    gateway.metadata_cache.put(job.id, metadata)
    return AwaitedJob(public_id, job, metadata)


async def submit_all(submissions: Iterable[Awaitable[AwaitedJob]]) -> list[AwaitedJob]:
    """Submit jobs; cancel all if one is refused, and raise its error."""
    outcomes = await asyncio.gather(*submissions, return_exceptions=True)
    jobs = [outcome for outcome in outcomes if isinstance(outcome, AwaitedJob)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if errors:
        await _cancel(jobs)
        raise errors[0]
    return jobs


async def outputs_of(
    gateway: Gateway, jobs: Sequence[AwaitedJob], wait_s: int | None = None
) -> list[Result]:
    """Return the outputs in order; cancel the other jobs if one fails. Raises Problem."""
    outputs = [asyncio.create_task(output_of(gateway, job, wait_s)) for job in jobs]
    try:
        return list(await asyncio.gather(*outputs))
    except BaseException:
        for output in outputs:
            output.cancel()
        await _cancel(jobs)
        raise


async def output_of(gateway: Gateway, submitted: AwaitedJob, wait_s: int | None = None) -> Result:
    """Wait for the output of a job, for the gateway's maximum if `wait_s` is None.

    A job that does not end in time is cancelled, because nobody would read its output. Raises
    JobProblem if the job fails, else Problem.
    """
    max_wait_s = gateway.settings.gateway_max_wait_s if wait_s is None else wait_s
    state, result, _ = await read_new_job(submitted.job, max_wait_s, gateway)
    if result is not None and result.error is not None:
        raise JobProblem(result.error.code.value, result.error.message)
    if result is not None and state is State.DONE:
        return result
    if state is State.CANCELLED:
        raise JobProblem("cancelled", "The job was cancelled")
    if state not in (State.QUEUED, State.RUNNING):
        raise JobProblem("expired", "The result of the job has expired")
    raise await cancel_late(gateway, submitted, max_wait_s)


async def cancel_late(gateway: Gateway, submitted: AwaitedJob, waited_s: float) -> Problem:
    """Cancel a job that has not ended in time, and return the problem."""
    await submitted.job.cancel()
    if gateway.stopping.is_set():
        return shutting_down()
    return Problem(
        "wait_timeout",
        f"There was no result within {waited_s} s (BLIPLINE_GATEWAY_MAX_WAIT_S), and the job is "
        "cancelled. Is a worker running? For long waits, use POST /v1/jobs",
    )


def rename_fields(
    error: RequestValidationError, names: Mapping[str, str]
) -> RequestValidationError:
    """Return the error with the names of the fields in the request; `options` is omitted."""
    details = []
    for detail in error.errors():
        parts = [part for part in detail["loc"][1:] if part != "options"]
        details.append({**detail, "loc": ("body", *(names.get(str(part), part) for part in parts))})
    return RequestValidationError(details)


async def _cancel(jobs: Sequence[AwaitedJob]) -> None:
    """Cancel jobs; those that have ended do not change."""
    with suppress(BliplineError):
        await asyncio.gather(*(submitted.job.cancel() for submitted in jobs))
