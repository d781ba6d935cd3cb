"""Requests and responses of the webhook routes."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ...ledger.delivery_log import DELIVERY_ID, DeliveryStatus, EventName, WebhookDelivery
from ..access.tenants import PUBLIC_ID, public_id_of
from .list_responses import ListBody
from .queries import StrictQuery
from .request_fields import MAX_WEBHOOK_CHARS, check_webhook_url, example_config

#: Maximum and default number of deliveries in a page.
MAX_PAGE: Final = 100
DEFAULT_PAGE: Final = 20

_EXAMPLE: Final[dict[str, Any]] = {
    "id": "1795000004211-0",
    "object": "webhook_delivery",
    "event": "batch.completed",
    "job": None,
    "batch": "photos",
    "message_id": "msg_0a3bd4f0c7e14d8e8f6d0c1b2a394857",
    "url": "https://hooks.example.com",
    "created_at": 1795000004.025,
    "duration_ms": 186,
    "attempt": 1,
    "status": "retrying",
    "status_code": 503,
    "error": "the receiver responded 503",
    "next_attempt_at": 1795000009.4,
    "resent": False,
}


class PingRequest(BaseModel):
    """A URL that receives a test webhook."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"webhook": "https://hooks.example.com/blipline"}]},
    )

    webhook: Annotated[
        str,
        Field(
            max_length=MAX_WEBHOOK_CHARS,
            json_schema_extra={"format": "uri"},
            description="URL that receives the signed POST.",
        ),
        AfterValidator(check_webhook_url),
    ]


class DeliveriesQuery(StrictQuery):
    """Parameters of the list of deliveries."""

    limit: int = Field(DEFAULT_PAGE, ge=1, le=MAX_PAGE, description="Maximum number of deliveries.")
    cursor: str | None = Field(
        None,
        pattern=f"^{DELIVERY_ID}$",
        description="`next_cursor` of the page before: continues after it.",
    )
    status: DeliveryStatus | None = Field(None, description="Only deliveries with this outcome.")
    job: str | None = Field(
        None, pattern=f"^{PUBLIC_ID}$", description="Only deliveries of the job with this id."
    )


class ResendQuery(StrictQuery):
    """Parameters of another delivery."""

    batch: str | None = Field(
        None,
        pattern=f"^{PUBLIC_ID}$",
        description="Id of the batch whose deliveries contain this one; without it, those of your "
        "name do.",
    )


class DeliveryBody(BaseModel):
    """One attempt to deliver a webhook."""

    model_config = example_config(**_EXAMPLE)

    id: str
    object: Literal["webhook_delivery"]
    event: EventName
    job: str | None = Field(description="Id of the job that ended.")
    batch: str | None = Field(description="Id of the batch that ended.")
    message_id: str = Field(
        description="`webhook-id` of the request: the same for every attempt of an event."
    )
    url: str = Field(description="Scheme and host: the rest of a URL may be a secret.")
    created_at: float = Field(description="Time of the request, Unix seconds.")
    duration_ms: int = Field(description="Milliseconds until the response or the error.")
    attempt: int = Field(description="Number of the attempt, from 1.")
    status: DeliveryStatus = Field(
        description="`retrying`: another attempt follows; `failed`: none does."
    )
    status_code: int | None = Field(description="Status of the response; null if there was none.")
    error: str | None = Field(description="Cause of the failure.")
    next_attempt_at: float | None = Field(description="Unix seconds.")
    resent: bool = Field(description="True if you asked for the webhook to be sent again.")

    @classmethod
    def of(cls, delivery: WebhookDelivery) -> Self:
        """Return a delivery with the public id of its job or batch."""
        public_id = public_id_of(delivery.subject) if delivery.subject else None
        return cls(
            id=delivery.id,
            object="webhook_delivery",
            event=delivery.event,
            job=public_id if delivery.event == "job.completed" else None,
            batch=public_id if delivery.event == "batch.completed" else None,
            message_id=delivery.message_id,
            url=delivery.url,
            created_at=delivery.at,
            duration_ms=delivery.duration_ms,
            attempt=delivery.attempt,
            status=delivery.status,
            status_code=delivery.status_code,
            error=delivery.error or None,
            next_attempt_at=delivery.next_attempt_at,
            resent=delivery.resent,
        )


class DeliveryListBody(ListBody):
    """Page of a list of deliveries, the newest first."""

    model_config = example_config(
        object="list", data=[_EXAMPLE], has_more=True, next_cursor=_EXAMPLE["id"]
    )

    data: list[DeliveryBody]
