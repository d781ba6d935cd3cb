"""The outbox of webhook events: ends of jobs and batches that are due for delivery."""

from __future__ import annotations

import redis

from .aborts import JobAborter
from .delivery_log import WebhookDelivery
from .keys import Keys
from .records import WebhookEvent
from .script import LedgerScript


class WebhookOutbox:
    """The webhook senders' side of the ledger; thread-safe. Raises redis-py's errors as they are.

    The script adds the event atomically with the end of the job or batch.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys = Keys(),  # noqa: B008 - immutable
    ) -> None:
        self._script = LedgerScript(client, keys.prefix)
        self._aborter = JobAborter(client, keys)

    def claim_due(self, limit: int, lease_s: float) -> list[WebhookEvent]:
        """Claim due events; no other sender receives them for `lease_s` seconds.

        Jobs past their deadline end first, so that their webhooks are sent even without a worker.
        """
        self._aborter.expire_due()
        return [
            WebhookEvent(kind, task_id, url, int(event), int(attempts), metadata, resent == "1")
            for kind, task_id, url, event, attempts, metadata, resent in (
                (value.decode() for value in values)
                for values in self._script.call("claim_due", limit, lease_s)
            )
        ]

    def settle(
        self,
        event: WebhookEvent,
        detail: str,
        retry_in_s: float | None,
        delivery: WebhookDelivery | None = None,
        name: str = "",
    ) -> None:
        """Record the detail of an attempt; retry after `retry_in_s` seconds. None: do not retry.

        With a `delivery`, the attempt is added to the log of a name of API keys, and of a batch.
        """
        pause_s = -1 if retry_in_s is None else retry_in_s
        log = (name, delivery.encode()) if delivery and name else ("",)
        self._script.call("settle", event.kind, event.id, event.event, pause_s, detail, *log)

    def defer(self, event: WebhookEvent, pause_s: float) -> None:
        """Return an event without an attempt; it is due again after `pause_s` seconds."""
        self._script.call("defer", event.kind, event.id, event.event, pause_s)
