"""Route of tokens: a backend creates one for a browser, which then reads the events of a batch."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from ..access.auth import TenantDependency
from ..access.event_tokens import PARAMETER, EventToken
from ..http.problems import Problem
from ..openapi.openapi import json_responses, problem_responses
from ..schemas.queries import TokenQuery
from ..schemas.request_fields import example_config
from ..schemas.responses import batch_url
from ..state import GatewayDependency
from .batches import BatchId, find_batch

router = APIRouter(tags=["batches"])


class TokenBody(BaseModel):
    """A token for the events of a batch."""

    model_config = example_config(
        token="blipt_WyIzZjljMGE1MWIyN2Ui…",
        expires_at=1795000600,
        url="/v1/batches/photos/events?token=blipt_WyIzZjljMGE1MWIyN2Ui…",
    )

    token: str
    expires_at: int = Field(description="Unix seconds.")
    url: str = Field(description="Path of the events, with the token.")


@router.post(
    "/v1/batches/{id}/token",
    summary="Create a token for the events of a batch",
    status_code=201,
    response_class=Response,
    responses={
        **json_responses({201: "The token"}, TokenBody),
        **problem_responses(404, 422),
    },
)
async def create_token(
    public_id: BatchId,
    query: Annotated[TokenQuery, Query()],
    tenant: TenantDependency,
    gateway: GatewayDependency,
) -> Response:
    """Return a token that allows GET of the events of this batch, and nothing else.

    A browser's `EventSource` cannot send an API key, and must not know one. The token ends with the
    API key that has created it.
    """
    await find_batch(gateway, tenant, public_id)
    key = await gateway.key_cache.key_of(tenant.key_id)
    if key is None:
        raise Problem("unauthorized", "The API key was revoked")
    expires_at = int(time.time()) + query.ttl_s
    token = EventToken(key.id, public_id, expires_at).encode(key)
    url = f"{batch_url(public_id)}/events?{PARAMETER}={token}"
    body = TokenBody(token=token, expires_at=expires_at, url=url)
    return Response(body.model_dump_json(), 201, media_type="application/json")
