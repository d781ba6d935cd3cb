"""Payload and signature of a webhook, by the Standard Webhooks convention
(https://www.standardwebhooks.com)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from standardwebhooks import Webhook

from ..ledger.delivery_log import EventName
from ..ledger.records import WebhookEvent


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """The body and the signed headers of one request."""

    body: str
    headers: Mapping[str, str]


def build_message(
    event: WebhookEvent, data: Mapping[str, Any], secrets: Sequence[str], at: datetime
) -> WebhookMessage:
    """Return the signed message of an event; `at` is the time in UTC."""
    return sign_message(message_id(event), event_name(event), data, secrets, at)


def sign_message(
    event_id: str, name: EventName, data: Mapping[str, Any], secrets: Sequence[str], at: datetime
) -> WebhookMessage:
    """Return the signed message of an id and a kind of event; `at` is the time in UTC.

    Each of the secrets signs it, so that a secret can be replaced.
    """
    body = json.dumps(
        {
            "type": name,
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "data": data,
        },
        separators=(",", ":"),
        allow_nan=False,
    )
    signatures = (Webhook(secret).sign(event_id, at, body) for secret in secrets)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
    return WebhookMessage(body, headers)


def event_name(event: WebhookEvent) -> EventName:
    """Return the `type` of an event's body."""
    return "job.completed" if event.kind == "job" else "batch.completed"


def message_id(event: WebhookEvent) -> str:
    """Return the `webhook-id`: the same for every attempt of an event, different for other events.

    It includes the metadata, which contains the time of submission: the id of a deleted job can be
    reused.
    """
    identity = json.dumps([event.kind, event.id, event.event, event.metadata])
    return f"msg_{hashlib.sha256(identity.encode()).hexdigest()[:32]}"
