"""The outbox of webhook events: ends of jobs and batches that are due for delivery."""

from __future__ import annotations

import redis

from .keys import Keys
from .records import WebhookEvent
from .script import LedgerScript


class WebhookOutbox:
    """The webhook senders' side of the ledger; thread-safe. Raises redis-py's errors as they are.

    The script adds an event in the step that ends the job or batch.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys = Keys(),  # noqa: B008 - immutable
    ) -> None:
        self._script = LedgerScript(client, keys.prefix)

    def claim_due(self, limit: int, lease_s: float) -> list[WebhookEvent]:
        """Claim due events; no other sender receives them for `lease_s` seconds."""
        return [
            WebhookEvent(kind, task_id, url, int(event), int(tries), metadata)
            for kind, task_id, url, event, tries, metadata in (
                (value.decode() for value in values)
                for values in self._script.call("claim_due", limit, lease_s)
            )
        ]

    def settle(self, event: WebhookEvent, outcome: str, retry_in_s: float | None) -> None:
        """Record the outcome of a delivery; retry after so many seconds, or, None, never."""
        pause_s = -1 if retry_in_s is None else retry_in_s
        self._script.call("settle", event.kind, event.id, event.event, pause_s, outcome)

    def defer(self, event: WebhookEvent, pause_s: float) -> None:
        """Return an event that was not tried; it is due again in so many seconds."""
        self._script.call("defer", event.kind, event.id, event.event, pause_s)
