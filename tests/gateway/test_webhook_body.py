"""What is told of an end."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import pytest
import redis

from producer import Client
from producer.contract import Task
from producer.gateway.metadata import RequestMetadata
from producer.ledger.keys import Keys
from tests.conftest import Finish
from tests.webhooks.receiver import receiving
from tests.webhooks.sending import (
    SECRET,
    EndJob,
    StartSender,
    told,
    wait_until_over,
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
def test_the_end_of_a_job_is_told_as_get_says_it(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    outcomes: Counter[str],
    result: dict[str, Any],
    status: str,
    output: Any,
    code: str | None,
) -> None:
    with receiving() as receiver:
        start_sender()
        end_job(receiver.url, result=result)
        said = receiver.next().verified(SECRET)
        assert said["type"] == "job.completed"
        assert said["timestamp"].endswith("Z")
        datetime.fromisoformat(said["timestamp"])
        data = said["data"]
        assert (data["id"], data["object"], data["status"]) == ("x", "job", status)
        assert data["output"] == output
        assert (data["error"] or {}).get("code") == code
        assert data["urls"]["get"] == "/v1/jobs/x"
        wait_until_over(connection)
    assert told(connection) == "204"
    assert outcomes == {"sent": 1}
    assert len(receiver.received) == 1


def test_the_end_of_a_batch_is_told_without_its_results(
    start_sender: StartSender, client: Client, connection: redis.Redis, finish: Finish
) -> None:
    note = RequestMetadata(Task.CAPTION, 1_790_000_000.5).encode()
    with receiving() as receiver:
        start_sender()
        hook = {"note": note, "webhook": receiver.url}
        client.submit_batch([URL, URL], batch_id="acme.batch.photos", **hook)
        bad = {"error": {"code": "image_unreachable", "message": "down"}}
        finish("acme.batch.photos:0", [{"text": "a cat"}, bad])
        said = receiver.next().verified(SECRET)
        assert said["type"] == "batch.completed"
        assert said["data"]["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
        assert said["data"]["status"] == "failed"
        assert said["data"]["urls"]["results"] == "/v1/batches/photos/results"
        wait_until_over(connection)


def test_a_job_whose_result_is_no_longer_kept_has_expired(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    with receiving() as receiver:
        end_job(receiver.url)
        connection.delete(Keys().result("acme.job.x"))
        start_sender()
        assert receiver.next().data["status"] == "expired"


def test_what_was_asked_again_meanwhile_is_not_told_of_yet(
    start_sender: StartSender, client: Client, connection: redis.Redis, finish: Finish
) -> None:
    note = RequestMetadata(Task.CAPTION, 1_790_000_000.5).encode()
    with receiving() as receiver:
        hook = {"note": note, "webhook": receiver.url}
        batch = client.submit_batch([URL], batch_id="acme.batch.photos", **hook)
        finish(f"{batch.id}:0", [{"error": {"code": "image_unreachable", "message": "down"}}])
        batch.retry_failed()
        start_sender()
        wait_until_over(connection)
        assert not receiver.received
        finish(f"{batch.id}:0", [{"text": "a cat"}])
        assert receiver.next().data["status"] == "done"
