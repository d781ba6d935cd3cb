"""Routes for operators: liveness, readiness, Prometheus metrics and the depth of the queues."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from ..errors import BliplineError
from ..metrics.exposition import JoinedCollector, encode_metrics
from ..metrics.ledger_metrics import metric_families
from .access.auth import TenantDependency
from .http.problems import shutting_down
from .openapi.openapi import json_responses, problem_responses
from .schemas.responses import QueuesBody
from .state import GatewayDependency

router = APIRouter()

_OK: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {"example": {"status": "ok"}}}}
}
_READY: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {"example": {"status": "ok", "workers": 2}}}}
}
_METRICS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            "text/plain": {
                "schema": {"type": "string"},
                "example": 'blipline_open_items{queue="bulk"} 3.0\n',
            }
        }
    }
}


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", tags=["health"], summary="Check liveness", responses=_OK)
async def healthz() -> dict[str, str]:
    """Return 200 while the process runs, regardless of the state of Redis."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    tags=["health"],
    summary="Check readiness",
    responses=_READY | problem_responses(503),
)
async def readyz(gateway: GatewayDependency) -> dict[str, str | int]:
    """Return 200 if Redis is reachable and the process is not shutting down.

    `workers` is the number of workers that are alive; a gateway without one accepts jobs.
    """
    if gateway.stopping.is_set():
        raise shutting_down()
    depth = await gateway.client.probe()
    return {"status": "ok", "workers": depth.workers}


@router.get(
    "/metrics",
    tags=["health"],
    summary="Get Prometheus metrics",
    response_class=Response,
    responses=_METRICS,
)
async def metrics(request: Request, gateway: GatewayDependency) -> Response:
    """Return the metrics of this process, and those of the job store unless Redis is down.

    The format is OpenMetrics if the header Accept asks for it.
    """
    try:
        statistics = await gateway.client.probe_statistics()
    except BliplineError:
        statistics = None
    families = metric_families(statistics, gateway.settings)
    collector = JoinedCollector(gateway.metrics.registry, families)
    text, content_type = encode_metrics(collector, request.headers.get("accept", ""))
    return Response(text, media_type=content_type)


@router.head("/v1/queues", include_in_schema=False)
@router.get(
    "/v1/queues",
    tags=["queues"],
    summary="Get the depth of the queues",
    response_class=Response,
    responses=json_responses({200: "The queues"}, QueuesBody),
)
async def get_queues(tenant: TenantDependency, gateway: GatewayDependency) -> Response:
    """Return the open items of all tenants together, your stored bytes, and the limits.

    A queue at its limit accepts no more items: `POST /v1/jobs` answers 429, and batch uploads wait.
    """
    depth = await gateway.client.depth()
    stored_bytes = await gateway.client.stored_bytes(tenant.name)
    body = QueuesBody.of(depth, stored_bytes, gateway.settings)
    return Response(body.model_dump_json(), media_type="application/json")
