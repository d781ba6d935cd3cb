"""How much is open."""

from __future__ import annotations

from fastapi import APIRouter, Response

from .access import CallerDependency
from .bodies import QueuesBody
from .openapi import answers
from .parts import GatewayDependency

router = APIRouter(tags=["queues"])


@router.head("/v1/queues", include_in_schema=False)
@router.get(
    "/v1/queues",
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
