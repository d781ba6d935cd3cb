"""Attempts at webhooks, as the delivery log records them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final, Self

from ..ledger.delivery_log import DeliveryStatus, EventName, WebhookDelivery
from ..ledger.records import WebhookEvent
from ..net.http_client import origin_of
from .payload import event_name, message_id
from .receiver import Delivery, Verdict

#: Maximum characters of a recorded cause.
MAX_ERROR_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """An attempt that starts now."""

    event: EventName
    #: Id of the job or batch; '' for a ping.
    subject: str
    message_id: str
    url: str
    number: int = 1
    resent: bool = False
    #: Unix s, and seconds on the monotonic clock.
    _at: float = field(default_factory=time.time)
    _started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, event: WebhookEvent) -> Self:
        """Return the next attempt at an event."""
        number = event.attempts + 1
        name, event_id = event_name(event), message_id(event)
        return cls(name, event.id, event_id, event.url, number, event.resent)

    def record(self, delivery: Delivery, retry_in_s: float | None = None) -> WebhookDelivery:
        """Return the entry for the result of this attempt, which ends now."""
        now = time.time()
        is_delivered = delivery.verdict is Verdict.DELIVERED
        status: DeliveryStatus = "failed" if retry_in_s is None else "retrying"
        return WebhookDelivery(
            self.event,
            self.subject,
            self.message_id,
            origin_of(self.url),
            round(self._at, 3),
            round((time.monotonic() - self._started) * 1000),
            "delivered" if is_delivered else status,
            delivery.status_code,
            "" if is_delivered else _cause(delivery)[:MAX_ERROR_CHARS],
            self.number,
            None if retry_in_s is None else round(now + retry_in_s, 3),
            self.resent,
        )


def _cause(delivery: Delivery) -> str:
    has_response = delivery.status_code is not None
    return f"the receiver responded {delivery.detail}" if has_response else delivery.detail
