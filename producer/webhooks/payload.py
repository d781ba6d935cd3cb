"""What a webhook says: that a job or a batch has ended, signed by the Standard Webhooks convention
(https://www.standardwebhooks.com)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from standardwebhooks import Webhook

from ..ledger.records import WebhookEvent


@dataclass(frozen=True, slots=True)
class Message:
    """One request: its body, and the headers that say who sent it."""

    body: str
    headers: Mapping[str, str]


def message(
    told: WebhookEvent, data: Mapping[str, Any], secrets: Sequence[str], at: datetime
) -> Message:
    """What is sent at this moment, in UTC; each of the secrets signs it, so one can be replaced."""
    body = json.dumps(
        {
            "type": f"{told.kind}.completed",
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "data": data,
        },
        separators=(",", ":"),
        allow_nan=False,
    )
    name = message_id(told)
    signatures = (Webhook(secret).sign(name, at, body) for secret in secrets)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
    return Message(body, headers)


def message_id(told: WebhookEvent) -> str:
    """The same at each try to tell of one end; another for each other end.

    The note says when it was submitted: of what was deleted the id may be used again.
    """
    end = json.dumps([told.kind, told.id, told.event, told.note])
    return f"msg_{hashlib.sha256(end.encode()).hexdigest()[:32]}"
