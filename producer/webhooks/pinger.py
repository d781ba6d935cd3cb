"""Pings: signed test webhooks to a URL, before any job names it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from ..ledger.delivery_log import DeliveryLog, EventName, WebhookDelivery
from .delivery_attempt import DeliveryAttempt
from .payload import sign_message
from .receiver import WebhookClient

PING: Final[EventName] = "webhook.ping"
_DATA: Final = {"message": "This is a test: no job or batch has ended."}


class WebhookPinger:
    """A sender of pings; thread-safe. `secrets_of` returns the signing secrets of a name."""

    def __init__(
        self, client: WebhookClient, secrets_of: Callable[[str], Sequence[str]], log: DeliveryLog
    ) -> None:
        self._client = client
        self._secrets_of = secrets_of
        self._log = log

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ping(self, name: str, url: str) -> WebhookDelivery:
        """Send one ping, and return its entry of the name's log; raises redis-py's errors."""
        attempt = DeliveryAttempt(PING, "", f"msg_{secrets.token_hex(16)}", url)
        signers, now = self._secrets_of(name), datetime.now(UTC)
        message = sign_message(attempt.message_id, PING, _DATA, signers, now)
        return self._log.append(name, attempt.record(self._client.send(url, message)))
