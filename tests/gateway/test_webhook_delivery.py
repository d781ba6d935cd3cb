"""Webhooks that a running gateway delivers."""

from __future__ import annotations

import json

import pytest
import redis
from standardwebhooks import WebhookVerificationError

from producer.gateway.access.api_keys import ApiKeys
from producer.ledger.keys import Keys
from tests.conftest import Finish
from tests.webhooks.receiver import running_receiver, stay_silent
from tests.webhooks.senders import (
    EndJob,
    wait_for_result,
    wait_until_settled,
)

from .conftest import Run, Start
from .samples import JSONL, URL


def test_the_webhook_of_a_job_is_delivered(
    run_gateway: Run,
    connection: redis.Redis,
    finish: Finish,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway = run_gateway(BLIPLINE_WEBHOOK_ALLOW="127.0.0.0/8")
    keys = ApiKeys(connection)
    http = gateway.client("acme")
    with running_receiver(503, 200) as receiver:
        payload = {
            "task": "caption",
            "image": URL,
            "webhook": f"{receiver.url}?token=private-query",
        }
        job = http.post("/v1/jobs", json=payload).json()
        finish(f"acme.job.{job['id']}", [{"text": "a cat"}])
        receiver.next()
        # The retry follows seconds later, with the new secret.
        new = keys.rotate_webhook_secret("acme")
        received = receiver.next()
        secrets = keys.webhook_secrets("acme")
        assert len(secrets) == 2
        assert secrets[0] == new
        for secret in secrets:
            assert received.verify(secret)["data"] == http.get(job["urls"]["get"]).json()
        with pytest.raises(WebhookVerificationError):
            received.verify(keys.webhook_secrets("other")[0])
        wait_until_settled(connection)
    metrics = http.get("/metrics").text
    assert 'blipline_gateway_webhooks_total{outcome="sent"} 1.0' in metrics
    assert 'blipline_gateway_webhooks_total{outcome="failed"} 1.0' in metrics
    assert "webhook of acme.job." in caplog.text
    assert "private-query" not in caplog.text
    assert "whsec_" not in caplog.text


def test_the_webhook_of_a_batch_is_delivered(
    run_gateway: Run, connection: redis.Redis, finish: Finish
) -> None:
    gateway = run_gateway(BLIPLINE_WEBHOOK_ALLOW="127.0.0.0/8")
    http = gateway.client("acme")
    with running_receiver() as receiver:
        batch = http.post(
            "/v1/batches",
            params={"id": "hooked-photos", "webhook": receiver.url},
            content=json.dumps({"custom_id": "first", "image": URL}),
            headers={"Content-Type": "application/jsonl"},
        ).json()
        finish("acme.batch.hooked-photos:0", [{"text": "a cat", "custom_id": "first"}])
        received = receiver.next()
        message = received.verify(ApiKeys(connection).webhook_secrets("acme")[0])
        assert message["type"] == "batch.completed"
        assert message["data"]["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
        assert message["data"] == http.get(batch["urls"]["get"]).json()
        wait_until_settled(connection)


def test_an_internal_address_is_blocked_by_default(
    run_gateway: Run, connection: redis.Redis, end_job: EndJob
) -> None:
    http = run_gateway().client("acme")
    with running_receiver() as canary:
        for path in ("/v1/jobs", "/v1/batches?id=blocked&webhook=" + canary.url):
            payload = {"task": "caption", "image": URL, "webhook": canary.url}
            answer = http.post(path, json=payload, headers=JSONL if "?" in path else {})
            assert (answer.status_code, "webhook: 127.0.0.1" in answer.json()["detail"]) == (
                422,
                True,
            )
        # Another program, or a name that has changed since: the sender blocks it as well.
        end_job(canary.url, "blocked")
        wait_for_result(connection, "blocked", "blocked")
        assert canary.connections == 0


def test_a_silent_receiver_does_not_delay_the_shutdown(
    start_gateway: Start, connection: redis.Redis, finish: Finish
) -> None:
    gateway = start_gateway(BLIPLINE_WEBHOOK_ALLOW="127.0.0.0/8")
    with running_receiver(stay_silent) as receiver:
        payload = {"task": "caption", "image": URL, "webhook": receiver.url}
        job = gateway.client("acme").post("/v1/jobs", json=payload).json()
        finish(f"acme.job.{job['id']}", [{"text": "a cat"}])
        receiver.next()
        gateway.process.terminate()
        gateway.process.wait(timeout=60)
    # The event is delivered later.
    assert connection.zcard(Keys().webhooks) == 1
