"""Submission of single jobs, and the responses to it; every route of jobs uses it."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from ...aio.handles import AsyncJob
from ...contract import State
from ...errors import ConnectionFailed, IdTaken, InvalidInput
from ...results.result import JobProgress
from ..access.permissions import check_task
from ..access.quota_meter import counted_item
from ..access.tenants import Tenant
from ..http import prefer_header
from ..http.logs import LOGGER
from ..http.problems import Problem
from ..http.shutdown import wait_unless
from ..images import image_refs
from ..schemas.job_responses import JobFields, job_url
from ..schemas.metadata import RequestMetadata
from ..schemas.responses import poll_after_s
from ..schemas.task_fields import TaskFields
from ..state import Gateway, gateway_of
from .idempotency import id_taken
from .request_body import run_if_large

#: Progress of a job that was just submitted.
NEW_JOB = JobProgress(State.QUEUED)


async def submit_job(
    gateway: Gateway,
    tenant: Tenant,
    public_id: str,
    fields: TaskFields,
    image: bytes | None = None,
) -> tuple[AsyncJob[Any], RequestMetadata]:
    """Submit a job; `image` are the bytes of its image if the fields do not refer to it.

    Raises Problem and the errors of the client.
    """
    check_task(tenant.policy, fields.contract_task)
    metadata = RequestMetadata.now(fields.contract_task, fields.metadata)
    item = fields.item()
    if image is not None:
        item["image"] = image
    elif (reference := item.get("image")) is not None:
        item["image"] = await run_if_large(
            len(reference),
            image_refs.resolve,
            reference,
            gateway.settings.max_image_bytes,
            gateway.image_access(tenant),
        )
    await gateway.webhook_guard.check(fields.webhook, tenant.name)
    try:
        async with counted_item(gateway.daily_quotas, gateway.redis_calls, tenant):
            job = await gateway.client.submit(
                item,
                metadata.task,
                job_id=tenant.job_id(public_id),
                submitter=tenant.name,
                note=metadata.encode(),
                webhook=fields.webhook or "",
                deadline_s=fields.deadline_s,
                **fields.given_options(),
            )
    except IdTaken:
        raise id_taken(public_id) from None
    return job, metadata


async def find_job(
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


async def read_new_job(job: AsyncJob[Any], wait_s: float | None, gateway: Gateway) -> JobProgress:
    """Wait for a new job. If Redis fails meanwhile, the response must still contain its id."""
    # A new job has no result to read unless the request waits for it.
    if wait_s is None:
        return NEW_JOB
    try:
        return await read_job(job, wait_s, gateway)
    except ConnectionFailed as error:
        LOGGER.warning("%s", error)
        return NEW_JOB


async def read_job(job: AsyncJob[Any], wait_s: float | None, gateway: Gateway) -> JobProgress:
    """Return the progress of a job; a shutdown of the process ends the wait for its end early."""
    if not wait_s:
        return await job.progress()
    return await wait_unless(gateway.stopping, job.progress(wait_s)) or await job.progress()


def preferred_wait_s(request: Request, gateway: Gateway) -> int | None:
    """Return the seconds that a request prefers to wait; None if it has no preference."""
    return prefer_header.wait_s(
        request.headers.getlist("prefer"), gateway.settings.gateway_max_wait_s
    )


async def first_metadata(
    gateway: Gateway, job: AsyncJob[Any], new_metadata: RequestMetadata, *, is_new: bool
) -> RequestMetadata:
    """Return the metadata of a submitted job: that of its first submission remains.

    `is_new` is false if an earlier request may have submitted it.
    """
    if not is_new:
        return await gateway.metadata_cache.of(job) or new_metadata
    gateway.metadata_cache.put(job.id, new_metadata)
    return new_metadata


async def submit_response(
    request: Request,
    public_id: str,
    job: AsyncJob[Any],
    new_metadata: RequestMetadata,
    *,
    is_new: bool,
    default_wait_s: int | None = None,
) -> Response:
    """Wait for a submitted job, and return the response: 200 if it has ended, else 202.

    `is_new` is as in `first_metadata`.
    """
    gateway = gateway_of(request)
    metadata = await first_metadata(gateway, job, new_metadata, is_new=is_new)
    preferred_s = preferred_wait_s(request, gateway)
    wait_s = default_wait_s if preferred_s is None else preferred_s
    read = read_new_job if is_new else read_job
    body = JobFields.of(public_id, metadata, await read(job, wait_s, gateway))
    status = 200 if body.ended else 202
    return job_response(body, preferred_s, status, {"Location": job_url(body.id)})


def job_response(
    body: JobFields, wait_s: int | None, status: int, headers: dict[str, str]
) -> Response:
    """Return a response about a job; `wait_s` is the preference that was applied."""
    if not body.ended:
        headers["Retry-After"] = str(poll_after_s(body.created_at))
    if wait_s is not None:
        headers["Preference-Applied"] = f"wait={wait_s}"
    return Response(body.model_dump_json(), status, headers, "application/json")
