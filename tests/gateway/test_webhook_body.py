"""Webhook bodies of ended jobs and batches."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import pytest
import redis

from producer import Client
from producer.contract import Task
from producer.gateway.schemas.metadata import RequestMetadata
from producer.ledger.keys import Keys
from tests.conftest import Finish
from tests.webhooks.receiver import running_receiver
from tests.webhooks.senders import (
    SECRET,
    EndJob,
    StartSender,
    last_result,
    wait_until_settled,
)

from .samples import URL


@pytest.mark.parametrize(
    ("result", "status", "output", "code"),
    [
        ({"text": "a cat"}, "done", {"text": "a cat"}, None),
        ({"error": {"code": "image_invalid", "message": "no"}}, "failed", None, "image_invalid"),
        ({"error": {"code": "cancelled", "message": "no"}}, "cancelled", None, "cancelled"),
    ],
)
def test_a_job_webhook_contains_the_body_of_get(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    outcomes: Counter[str],
    result: dict[str, Any],
    status: str,
    output: Any,
    code: str | None,
) -> None:
    with running_receiver() as receiver:
        start_sender()
        end_job(receiver.url, result=result)
        message = receiver.next().verify(SECRET)
        assert message["type"] == "job.completed"
        assert message["timestamp"].endswith("Z")
        datetime.fromisoformat(message["timestamp"])
        data = message["data"]
        assert (data["id"], data["object"], data["status"]) == ("x", "job", status)
        assert data["output"] == output
        assert (data["error"] or {}).get("code") == code
        assert data["urls"]["get"] == "/v1/jobs/x"
        wait_until_settled(connection)
    assert last_result(connection) == "204"
    assert outcomes == {"sent": 1}
    assert len(receiver.received) == 1


def test_a_batch_webhook_contains_counts_and_no_results(
    start_sender: StartSender, client: Client, connection: redis.Redis, finish: Finish
) -> None:
    note = RequestMetadata(Task.CAPTION, 1_790_000_000.5).encode()
    with running_receiver() as receiver:
        start_sender()
        hook: dict[str, Any] = {"note": note, "webhook": receiver.url}
        client.submit_batch([URL, URL], batch_id="acme.batch.photos", **hook)
        bad = {"error": {"code": "image_unreachable", "message": "down"}}
        finish("acme.batch.photos:0", [{"text": "a cat"}, bad])
        message = receiver.next().verify(SECRET)
        assert message["type"] == "batch.completed"
        assert message["data"]["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
        assert message["data"]["status"] == "failed"
        assert message["data"]["urls"]["results"] == "/v1/batches/photos/results"
        wait_until_settled(connection)


def test_a_webhook_of_an_expired_job_reports_it(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    with running_receiver() as receiver:
        end_job(receiver.url)
        connection.delete(Keys().result("acme.job.x"))
        start_sender()
        assert receiver.next().data["status"] == "expired"


def test_a_retried_batch_sends_its_webhook_at_the_new_end(
    start_sender: StartSender, client: Client, connection: redis.Redis, finish: Finish
) -> None:
    note = RequestMetadata(Task.CAPTION, 1_790_000_000.5).encode()
    with running_receiver() as receiver:
        hook: dict[str, Any] = {"note": note, "webhook": receiver.url}
        batch = client.submit_batch([URL], batch_id="acme.batch.photos", **hook)
        finish(f"{batch.id}:0", [{"error": {"code": "image_unreachable", "message": "down"}}])
        batch.retry_failed()
        start_sender()
        wait_until_settled(connection)
        assert not receiver.received
        finish(f"{batch.id}:0", [{"text": "a cat"}])
        assert receiver.next().data["status"] == "done"
