"""For those who watch over it: whether it lives, whether it can work, and figures."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from fastapi import APIRouter, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from ..errors import BliplineError
from .auth import CallerDependency
from .openapi import answers, problems
from .problems import ending
from .responses import QueuesBody
from .state import GatewayDependency

router = APIRouter()

_OK: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {"example": {"status": "ok"}}}}
}
_FIGURES: Final[dict[int | str, dict[str, Any]]] = {
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
@router.get("/healthz", tags=["health"], summary="Whether the process lives", responses=_OK)
async def healthz() -> dict[str, str]:
    """Answers as long as the process does; says nothing of Redis."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    tags=["health"],
    summary="Whether it can take requests",
    responses=_OK | problems(503),
)
async def readyz(gateway: GatewayDependency) -> dict[str, str]:
    """Whether Redis answers, and the process is not about to end."""
    if gateway.stopping.is_set():
        raise ending()
    await gateway.client.depth()
    return {"status": "ok"}


@router.get(
    "/metrics",
    tags=["health"],
    summary="Figures for Prometheus",
    response_class=Response,
    responses=_FIGURES,
)
async def metrics(gateway: GatewayDependency) -> Response:
    """Those of this process, and how much is open; without that while Redis is away."""
    open_items = gateway.metrics.open_items
    open_items.clear()
    with suppress(BliplineError):
        for queue, items in (await gateway.client.depth()).items.items():
            open_items.labels(queue.value).set(items)
    return Response(generate_latest(gateway.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@router.head("/v1/queues", include_in_schema=False)
@router.get(
    "/v1/queues",
    tags=["queues"],
    summary="How full the queues are",
    response_class=Response,
    responses=answers({200: "The queues"}, QueuesBody),
)
async def get_queues(_: CallerDependency, gateway: GatewayDependency) -> Response:
    """What is open now, of all callers together, and the bounds.

    A queue at its bound takes no more: `POST /v1/jobs` answers 429, and uploads of batches wait.
    """
    depth = await gateway.client.depth()
    body = QueuesBody.of(depth, gateway.settings)
    return Response(body.model_dump_json(), media_type="application/json")
