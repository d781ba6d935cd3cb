"""The delivery log of webhooks: list the attempts of the gateways, and send a webhook again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import redis

from ..connection.connect import redis_errors
from ..errors import InvalidInput, JobUnknown
from ..ledger.delivery_log import (
    DELIVERY_ID,
    MAX_LOGGED,
    DeliveryLog,
    DeliveryStatus,
    WebhookDelivery,
)
from ..ledger.keys import Keys
from ..validation import check_count

#: Default maximum number of attempts in a list.
LIST_DELIVERIES: Final = 100

_DELIVERY_ID: Final = re.compile(DELIVERY_ID)


class WebhookLog:
    """The delivery log of one Redis; thread-safe. Every method raises ConnectionFailed.

    Gateways log the latest attempts for each name of API keys, at most MAX_LOGGED, for a week.
    Those of a batch are also logged apart, at most 32, as long as the batch is stored.
    """

    def __init__(self, client: redis.Redis, keys: Keys, redis_url: str) -> None:
        self._log = DeliveryLog(client, keys)
        self._redis_url = redis_url

    def list(
        self,
        name: str,
        *,
        limit: int = LIST_DELIVERIES,
        before: str = "",
        status: DeliveryStatus | None = None,
        subject: str | None = None,
    ) -> Sequence[WebhookDelivery]:
        """Return attempts for a name of API keys, the newest first.

        `before` continues a list after an attempt, given its id; `subject` is the id of a job or
        batch. Raises InvalidInput.
        """
        check_count("limit", limit, MAX_LOGGED)
        if before and not _DELIVERY_ID.fullmatch(before):
            raise InvalidInput(f"cursor={before!r:.100}: pass `next_cursor` of an earlier page")
        has_filter = status is not None or subject is not None
        with redis_errors(self._redis_url):
            deliveries = self._log.page(name, MAX_LOGGED if has_filter else limit, before)
        selected = [
            delivery
            for delivery in deliveries
            if status in (None, delivery.status) and subject in (None, delivery.subject)
        ]
        return selected[:limit]

    def of_batch(self, batch_id: str) -> Sequence[WebhookDelivery]:
        """Return the attempts for a batch, the newest first."""
        with redis_errors(self._redis_url):
            return self._log.of_batch(batch_id)

    def resend(self, name: str, delivery_id: str, batch_id: str | None = None) -> WebhookDelivery:
        """Send the webhook of an attempt again, now, and return the attempt.

        The body is that of the job or batch as it is now. A webhook that waits for its next attempt
        gets it now; any other gets all attempts. `batch_id` selects the log of a batch. Raises
        JobUnknown if the log does not contain the attempt, or if its job or batch is no longer
        stored, and for a ping.
        """
        with redis_errors(self._redis_url):
            delivery = self._find(name, delivery_id, batch_id)
            if delivery is None:
                raise JobUnknown(f"no delivery {delivery_id!r:.50} is logged for this name")
            if delivery.event == "webhook.ping":
                raise JobUnknown(f"delivery {delivery.id} is a ping: send another ping instead")
            if not self._log.resend(delivery):
                raise JobUnknown(
                    f"the job or batch of delivery {delivery.id} is no longer stored, so there is "
                    "nothing to send"
                )
        return delivery

    def _find(self, name: str, delivery_id: str, batch_id: str | None) -> WebhookDelivery | None:
        if not _DELIVERY_ID.fullmatch(delivery_id):
            return None
        if batch_id is None:
            return self._log.find(name, delivery_id)
        deliveries = self._log.of_batch(batch_id)
        return next((entry for entry in deliveries if entry.id == delivery_id), None)
