"""Messages of the convention, and gateways that send them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Final

import pytest
import redis
from standardwebhooks import Webhook, WebhookVerificationError

from producer.gateway.api_keys import ApiKeys
from producer.ledger.keys import Keys
from producer.ledger.records import WebhookEvent
from producer.webhooks.payload import build_message, message_id
from tests.conftest import Finish
from tests.webhooks.receiver import receiving, silence
from tests.webhooks.sending import (
    OLD_SECRET,
    SECRET,
    wait_until_over,
    wait_until_told,
)

from .conftest import Start
from .samples import URL

END: Final = WebhookEvent("job", "acme.job.x", "https://h.example/hook", 1, 0, "")


def test_the_library_of_the_convention_verifies_what_is_said() -> None:
    said = build_message(END, {"id": "x"}, [SECRET], datetime.now(UTC))
    assert Webhook(SECRET).verify(said.body, dict(said.headers))["data"] == {"id": "x"}
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD_SECRET).verify(said.body, dict(said.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(said.body + " ", dict(said.headers))


def test_whoever_has_no_library_verifies_it_as_the_docs_show() -> None:
    said = build_message(END, {"text": "café"}, [SECRET, OLD_SECRET], datetime.now(UTC))
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = f"{said.headers['webhook-id']}.{said.headers['webhook-timestamp']}.{said.body}"
    digest = hmac.new(key, signed.encode(), hashlib.sha256).digest()
    right = f"v1,{base64.b64encode(digest).decode()}"
    assert right in said.headers["webhook-signature"].split(" ")


def test_all_secrets_of_a_name_sign() -> None:
    said = build_message(END, {}, [SECRET, OLD_SECRET], datetime.now(UTC))
    for secret in (SECRET, OLD_SECRET):
        Webhook(secret).verify(said.body, dict(said.headers))


@pytest.mark.parametrize(
    "other",
    [
        WebhookEvent("batch", END.id, END.url, 1, 0, ""),
        WebhookEvent("job", "acme.job.y", END.url, 1, 0, ""),
        WebhookEvent("job", END.id, END.url, 2, 0, ""),
        WebhookEvent("job", END.id, END.url, 1, 0, '{"created_at": 1790000000.5}'),
    ],
)
def test_the_id_of_a_message_is_that_of_one_end(other: WebhookEvent) -> None:
    again = WebhookEvent("job", END.id, END.url, 1, tries=3, metadata="")
    assert message_id(again) == message_id(END)
    assert message_id(other) != message_id(END)
    # It is a header, and what begins with the name of another is nobody's business.
    assert message_id(END).isascii()
    assert "acme" not in message_id(END)


def test_a_gateway_tells_of_a_job_that_came_over_http(
    start_gateway: Start, connection: redis.Redis, finish: Finish
) -> None:
    gateway = start_gateway(BLIPLINE_WEBHOOK_ALLOW="127.0.0.0/8")
    keys = ApiKeys(connection)
    http = gateway.client("acme")
    with receiving(503, 200) as receiver:
        asked = {"task": "caption", "image": URL, "webhook": f"{receiver.url}?token=private-query"}
        job = http.post("/v1/jobs", json=asked).json()
        finish(f"acme.job.{job['id']}", [{"text": "a cat"}])
        receiver.next()
        # It comes again some seconds later, when the secret is another one.
        new = keys.rotate_webhook_secret("acme")
        received = receiver.next()
        secrets = keys.webhook_secrets("acme")
        assert len(secrets) == 2
        assert secrets[0] == new
        for secret in secrets:
            assert received.verified(secret)["data"] == http.get(job["urls"]["get"]).json()
        with pytest.raises(WebhookVerificationError):
            received.verified(keys.webhook_secrets("other")[0])
        wait_until_over(connection)
    metrics = http.get("/metrics").text
    assert 'blipline_gateway_webhooks_total{outcome="sent"} 1.0' in metrics
    assert 'blipline_gateway_webhooks_total{outcome="failed"} 1.0' in metrics
    output = gateway.output()
    assert "webhook of acme.job." in output
    assert "private-query" not in output
    assert "whsec_" not in output


def test_a_gateway_tells_of_a_batch_that_came_over_http(
    start_gateway: Start, connection: redis.Redis, finish: Finish
) -> None:
    gateway = start_gateway(BLIPLINE_WEBHOOK_ALLOW="127.0.0.0/8")
    http = gateway.client("acme")
    with receiving() as receiver:
        batch = http.post(
            "/v1/batches",
            params={"id": "told-photos", "webhook": receiver.url},
            content=json.dumps({"custom_id": "one", "image": URL}),
            headers={"Content-Type": "application/jsonl"},
        ).json()
        finish("acme.batch.told-photos:0", [{"text": "a cat", "custom_id": "one"}])
        received = receiver.next()
        said = received.verified(ApiKeys(connection).webhook_secrets("acme")[0])
        assert said["type"] == "batch.completed"
        assert said["data"]["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
        assert said["data"] == http.get(batch["urls"]["get"]).json()
        wait_until_over(connection)


def test_a_gateway_tells_no_inner_address_unless_settings_allow_it(
    start_gateway: Start, connection: redis.Redis, finish: Finish
) -> None:
    gateway = start_gateway()
    http = gateway.client("acme")
    with receiving() as canary:
        asked = {"task": "caption", "image": URL, "webhook": canary.url}
        job = http.post("/v1/jobs", json=asked).json()
        finish(f"acme.job.{job['id']}", [{"text": "a cat"}])
        wait_until_told(connection, "blocked", job["id"])
        assert canary.connections == 0


def test_a_gateway_ends_while_a_receiver_says_nothing(
    start_gateway: Start, connection: redis.Redis, finish: Finish
) -> None:
    gateway = start_gateway(BLIPLINE_WEBHOOK_ALLOW="127.0.0.0/8")
    with receiving(silence) as receiver:
        asked = {"task": "caption", "image": URL, "webhook": receiver.url}
        job = gateway.client("acme").post("/v1/jobs", json=asked).json()
        finish(f"acme.job.{job['id']}", [{"text": "a cat"}])
        receiver.next()
        gateway.process.terminate()
        gateway.process.wait(timeout=60)
    # It is told later, by another one or by itself.
    assert connection.zcard(Keys().webhooks) == 1
