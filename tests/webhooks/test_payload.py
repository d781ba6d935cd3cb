"""Payload and signature of webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Final

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from producer.ledger.records import WebhookEvent
from producer.webhooks.payload import build_message, message_id

from .senders import OLD_SECRET, SECRET

END: Final = WebhookEvent("job", "acme.job.x", "https://h.example/hook", 1, 0, "")


def test_the_library_of_the_convention_verifies_a_message() -> None:
    message = build_message(END, {"id": "x"}, [SECRET], datetime.now(UTC))
    assert Webhook(SECRET).verify(message.body, dict(message.headers))["data"] == {"id": "x"}
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD_SECRET).verify(message.body, dict(message.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(message.body + " ", dict(message.headers))


def test_a_message_verifies_without_a_library() -> None:
    message = build_message(END, {"text": "café"}, [SECRET, OLD_SECRET], datetime.now(UTC))
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = (
        f"{message.headers['webhook-id']}.{message.headers['webhook-timestamp']}.{message.body}"
    )
    digest = hmac.new(key, signed.encode(), hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    assert signature in message.headers["webhook-signature"].split(" ")


def test_every_secret_signs() -> None:
    message = build_message(END, {}, [SECRET, OLD_SECRET], datetime.now(UTC))
    for secret in (SECRET, OLD_SECRET):
        Webhook(secret).verify(message.body, dict(message.headers))


@pytest.mark.parametrize(
    "different",
    [
        WebhookEvent("batch", END.id, END.url, 1, 0, ""),
        WebhookEvent("job", "acme.job.y", END.url, 1, 0, ""),
        WebhookEvent("job", END.id, END.url, 2, 0, ""),
        WebhookEvent("job", END.id, END.url, 1, 0, '{"created_at": 1790000000.5}'),
    ],
)
def test_a_message_id_identifies_one_event(different: WebhookEvent) -> None:
    retried = WebhookEvent("job", END.id, END.url, 1, attempts=3, metadata="")
    assert message_id(retried) == message_id(END)
    assert message_id(different) != message_id(END)
    # It is a header, and does not disclose the tenant.
    assert message_id(END).isascii()
    assert "acme" not in message_id(END)
