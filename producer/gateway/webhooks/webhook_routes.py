"""Routes of webhooks: the delivery logs of a name and of a batch, resend, and a test ping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from ...ledger.delivery_log import WebhookDelivery
from ..access.auth import TenantDependency, request_tenant
from ..access.tenants import path_id
from ..batches.batches import BatchId, find_batch
from ..http.problems import shutting_down
from ..http.shutdown import wait_unless
from ..jobs.json_body import read_object
from ..jobs.request_body import request_error
from ..openapi.openapi import json_responses, problem_responses
from ..schemas.webhook_schemas import (
    DeliveriesQuery,
    DeliveryBody,
    DeliveryListBody,
    PingRequest,
    ResendQuery,
)
from ..state import GatewayDependency, gateway_of

router = APIRouter(tags=["webhooks"])

DeliveryId = Annotated[str, path_id("1795000004211-0")]

_PING_SCHEMA: Final = PingRequest.model_json_schema()
_PING_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {"schema": _PING_SCHEMA, "example": _PING_SCHEMA["examples"][0]}
    },
}


@router.get(
    "/v1/webhooks/deliveries",
    summary="List webhook deliveries",
    response_class=Response,
    responses={
        **json_responses({200: "A page of deliveries"}, DeliveryListBody),
        **problem_responses(422),
    },
)
async def list_deliveries(
    query: Annotated[DeliveriesQuery, Query()],
    tenant: TenantDependency,
    gateway: GatewayDependency,
) -> Response:
    """Return the latest attempts to deliver the webhooks of your name, the newest first.

    The last 1,000 are stored, for a week after the newest one; pings are among them.
    """
    deliveries = await gateway.client.webhooks.list(
        tenant.name,
        limit=query.limit + 1,
        before=query.cursor or "",
        status=query.status,
        subject=None if query.job is None else tenant.job_id(query.job),
    )
    return _list_response(deliveries, query.limit)


@router.get(
    "/v1/batches/{id}/deliveries",
    summary="List the webhook deliveries of a batch",
    response_class=Response,
    responses={
        **json_responses({200: "All stored deliveries"}, DeliveryListBody),
        **problem_responses(404),
    },
)
async def list_batch_deliveries(
    public_id: BatchId, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Return the last 32 attempts to deliver the webhook of a batch, the newest first."""
    batch, _, _ = await find_batch(gateway, tenant, public_id)
    return _list_response(await gateway.client.webhooks.of_batch(batch.id))


@router.post(
    "/v1/webhooks/deliveries/{id}/resend",
    summary="Send a webhook again",
    status_code=202,
    response_class=Response,
    responses={
        **json_responses({202: "The webhook is due now; the stored delivery"}, DeliveryBody),
        **problem_responses(404, 422),
    },
)
async def resend_delivery(
    delivery_id: DeliveryId,
    query: Annotated[ResendQuery, Query()],
    tenant: TenantDependency,
    gateway: GatewayDependency,
) -> Response:
    """Send the webhook of a delivery again, at once, whether it was delivered or not.

    The body contains the job or batch as it is now, and the `webhook-id` is the same. A webhook
    that waits for its next attempt gets it now; any other gets all attempts. The next delivery
    with this `message_id` is the result.
    """
    batch_id = None if query.batch is None else tenant.batch_id(query.batch)
    delivery = await gateway.client.webhooks.resend(tenant.name, delivery_id, batch_id)
    return _response(DeliveryBody.of(delivery), 202)


@router.post(
    "/v1/webhooks/ping",
    summary="Test a webhook URL",
    response_class=Response,
    responses={
        **json_responses({200: "The delivery, accepted or not"}, DeliveryBody),
        **problem_responses(422),
    },
    openapi_extra={"requestBody": _PING_BODY},
)
async def ping_webhook(request: Request) -> Response:
    """Send a signed `webhook.ping` to a URL once, and return the delivery.

    `status` is `delivered` if the receiver responded with 2xx within 10 seconds. A name may have
    one ping in progress.
    """
    gateway, tenant = gateway_of(request), request_tenant(request)
    async with read_object(request) as fields:
        try:
            url = PingRequest.model_validate(fields).webhook
        except ValidationError as error:
            raise request_error(error) from None
    await gateway.webhook_guard.check(url, tenant.name)
    ping = gateway.webhook_pings.send(tenant.name, url)
    delivery = await wait_unless(gateway.stopping, ping)
    if delivery is None:
        raise shutting_down()
    return _response(DeliveryBody.of(delivery))


def _list_response(deliveries: Sequence[WebhookDelivery], limit: int | None = None) -> Response:
    """Return a page of at most `limit` deliveries; a further one is on the next page."""
    page = deliveries[:limit]
    has_more = len(deliveries) > len(page)
    data = [DeliveryBody.of(delivery) for delivery in page]
    cursor = page[-1].id if has_more else None
    body = DeliveryListBody(object="list", data=data, has_more=has_more, next_cursor=cursor)
    return _response(body)


def _response(body: DeliveryBody | DeliveryListBody, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status, media_type="application/json")
