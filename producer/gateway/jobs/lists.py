"""Routes of lists: the jobs and the batches of a name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from ..access.auth import TenantDependency
from ..openapi.openapi import json_responses, problem_responses
from ..schemas.list_responses import BatchListBody, JobListBody
from ..schemas.queries import BatchesQuery, JobsQuery
from ..state import GatewayDependency
from .listing import ListPage, list_json

router = APIRouter()


@router.get(
    "/v1/jobs",
    tags=["jobs"],
    summary="List jobs",
    response_class=Response,
    responses={**json_responses({200: "A page of jobs"}, JobListBody), **problem_responses(422)},
)
async def list_jobs(
    query: Annotated[JobsQuery, Query()], tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Return the jobs of your name, the newest first, or the jobs of given ids.

    Jobs that do not exist are omitted. A page may have fewer jobs than `limit` although there are
    more: continue while `has_more` is true.
    """
    listing, run = gateway.listing, gateway.redis_calls.run
    selection = query.filter(query.status)
    if query.id:
        page = ListPage(await run(listing.jobs_of, tenant, query.id, selection), None)
    else:
        page = await run(listing.jobs, tenant, selection, query.limit, query.cursor)
    return Response(list_json(page), media_type="application/json")


@router.get(
    "/v1/batches",
    tags=["batches"],
    summary="List batches",
    response_class=Response,
    responses={
        **json_responses({200: "A page of batches"}, BatchListBody),
        **problem_responses(422),
    },
)
async def list_batches(
    query: Annotated[BatchesQuery, Query()], tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Return the batches of your name, the newest first, as `GET /v1/jobs` does."""
    selection = query.filter(query.status)
    page = await gateway.redis_calls.run(
        gateway.listing.batches, tenant, selection, query.limit, query.cursor
    )
    return Response(list_json(page), media_type="application/json")
