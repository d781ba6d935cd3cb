"""The webhook outbox: due events of jobs and batches, their leases and settlement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import redis

from producer import Client, JobUnknown
from producer.ledger import WebhookOutbox
from producer.ledger.records import WebhookEvent

from .jobs import KEYS

Finish = Callable[[str, Sequence[Mapping[str, Any]]], None]

URL = "https://images.example.com/cat.jpg"
HOOK = "https://backend.example.com/hook"


@pytest.fixture
def outbox(connection: redis.Redis) -> WebhookOutbox:
    return WebhookOutbox(connection)


def due(outbox: WebhookOutbox) -> WebhookEvent:
    (event,) = outbox.claim_due(10, 60)
    return event


def test_an_ended_job_has_a_due_event(
    client: Client, outbox: WebhookOutbox, finish: Finish
) -> None:
    job = client.submit({"image": URL}, webhook=HOOK, note="n")
    assert outbox.claim_due(10, 60) == []
    finish(job.id, [{"text": "a cat"}])
    assert due(outbox) == WebhookEvent("job", job.id, HOOK, event=1, attempts=0, metadata="n")
    # A second sender does not receive it.
    assert outbox.claim_due(10, 60) == []


def test_an_event_is_due_again_after_its_lease(
    client: Client, outbox: WebhookOutbox, finish: Finish
) -> None:
    finish(client.submit({"image": URL}, webhook=HOOK).id, [{"text": "a cat"}])
    (first,) = outbox.claim_due(10, 0)
    assert (first.attempts, due(outbox).attempts) == (0, 1)


def test_a_delivered_event_is_not_due_again(
    client: Client, outbox: WebhookOutbox, connection: redis.Redis, finish: Finish
) -> None:
    finish(client.submit({"image": URL}, webhook=HOOK).id, [{"text": "a cat"}])
    outbox.settle(due(outbox), "500", retry_in_s=0)
    outbox.settle(due(outbox), "200", retry_in_s=None)
    assert not connection.exists(KEYS.webhooks)


@pytest.mark.parametrize("items", [0, 1, 70])
def test_a_batch_has_a_due_event_when_all_of_it_has_ended(
    client: Client, outbox: WebhookOutbox, finish: Finish, items: int
) -> None:
    def slow() -> Iterator[str]:
        for number in range(items):
            if number == 32:
                # All chunks so far can end while the batch is still being submitted.
                finish("photos:0", [{"text": "x"}] * 32)
            yield URL

    batch = client.submit_batch(slow(), batch_id="photos", webhook=HOOK, note="n")
    for first in range(0, items, 32):
        assert outbox.claim_due(10, 60) == []
        finish(f"photos:{first // 32}", [{"text": "x"}] * min(32, items - first))
    assert due(outbox) == WebhookEvent("batch", batch.id, HOOK, event=1, attempts=0, metadata="n")


def test_a_retried_batch_ends_again(client: Client, outbox: WebhookOutbox, finish: Finish) -> None:
    batch = client.submit_batch([URL], batch_id="photos", webhook=HOOK)
    bad = {"error": {"code": "image_unreachable", "message": "down"}}
    finish("photos:0", [bad])
    first = due(outbox)
    assert batch.retry_failed() == 1
    finish("photos:0", [{"text": "a cat"}])
    # An outcome of the first end does not settle the second one.
    outbox.settle(first, "200", retry_in_s=None)
    assert due(outbox).event == 2


def test_a_deleted_batch_has_no_event(
    client: Client, outbox: WebhookOutbox, connection: redis.Redis, finish: Finish
) -> None:
    batch = client.submit_batch([URL], batch_id="photos", webhook=HOOK)
    finish("photos:0", [{"text": "a cat"}])
    batch.delete()
    assert outbox.claim_due(10, 60) == []
    with pytest.raises(JobUnknown):
        batch.progress()
    assert not connection.exists(KEYS.webhooks)
