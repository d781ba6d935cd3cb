"""The delivery log of webhooks: its bounds, its life, and events that are sent again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis

from producer import Client
from producer.ledger import WebhookOutbox
from producer.ledger.delivery_log import MAX_LOGGED, DeliveryLog, WebhookDelivery
from producer.ledger.script import SOURCE
from tests.conftest import Finish

from .jobs import KEYS

URL = "https://images.example.com/cat.jpg"
HOOK = "https://backend.example.com/hook?token=private"
PING = WebhookDelivery(
    "webhook.ping", "", "msg_1", "https://backend.example.com", 1.5, 20, "failed"
)


@pytest.fixture
def outbox(connection: redis.Redis) -> WebhookOutbox:
    return WebhookOutbox(connection)


@pytest.fixture
def log(connection: redis.Redis) -> DeliveryLog:
    return DeliveryLog(connection)


def attempt(outbox: WebhookOutbox, retry_in_s: float | None = None) -> WebhookDelivery:
    """Claim the due event, and settle it with an attempt of acme."""
    (event,) = outbox.claim_due(10, 60)
    name: Any = f"{event.kind}.completed"
    delivery = replace(PING, event=name, subject=event.id, attempt=event.attempts + 1)
    delivery = replace(delivery, resent=event.resent)
    outbox.settle(event, "500", retry_in_s, delivery, "acme")
    return delivery


def test_attempts_are_listed_from_the_newest_and_page_by_page(log: DeliveryLog) -> None:
    logged = [log.append("acme", replace(PING, attempt=number)) for number in (1, 2, 3)]
    assert log.page("acme") == logged[::-1]
    first = log.page("acme", 2)
    assert [*first, *log.page("acme", 2, before=first[-1].id)] == logged[::-1]
    assert log.find("acme", logged[1].id) == logged[1]
    assert log.find("other", logged[1].id) is None


def test_the_log_of_a_name_is_bounded_and_expires(
    log: DeliveryLog, connection: redis.Redis
) -> None:
    assert f"MAX_LOGGED, MAX_BATCH_LOGGED, LOG_TTL_S = {MAX_LOGGED}, 32, 7 * 86400" in SOURCE
    pipe = connection.pipeline()
    for _ in range(MAX_LOGGED + 5):
        pipe.xadd(KEYS.deliveries("acme"), {"d": PING.encode()})
    pipe.execute()
    log.append("acme", PING)
    assert connection.xlen(KEYS.deliveries("acme")) == MAX_LOGGED
    assert 7 * 86400 - 60 < connection.ttl(KEYS.deliveries("acme")) <= 7 * 86400


def test_a_batch_has_a_log_of_its_own_that_ends_with_it(
    client: Client, outbox: WebhookOutbox, log: DeliveryLog, connection: redis.Redis, finish: Finish
) -> None:
    batch = client.submit_batch([{"image": URL}], batch_id="acme.batch.b", webhook=HOOK)
    finish("acme.batch.b:0", [{"text": "a cat"}])
    for _ in range(40):
        attempt(outbox, retry_in_s=0)
    logged = log.of_batch(batch.id)
    assert [delivery.attempt for delivery in logged] == list(range(40, 8, -1))
    assert list(logged) == list(log.page("acme", 32))
    assert (
        0 < connection.ttl(KEYS.batch_deliveries(batch.id)) <= connection.ttl(KEYS.batch(batch.id))
    )
    batch.delete()
    assert log.of_batch(batch.id) == []
    # An attempt that was in progress does not bring it back.
    assert connection.exists(KEYS.batch_deliveries(batch.id)) == 0


def test_an_attempt_in_progress_does_not_restore_the_log_of_a_deleted_batch(
    client: Client, outbox: WebhookOutbox, log: DeliveryLog, finish: Finish
) -> None:
    batch = client.submit_batch([{"image": URL}], batch_id="acme.batch.b", webhook=HOOK)
    finish("acme.batch.b:0", [{"text": "a cat"}])
    (event,) = outbox.claim_due(10, 60)
    batch.delete()
    outbox.settle(event, "200", None, replace(PING, subject=batch.id), "acme")
    assert log.of_batch(batch.id) == []
    assert len(log.page("acme")) == 1


def test_a_settled_event_is_due_again_with_all_attempts(
    client: Client, outbox: WebhookOutbox, log: DeliveryLog, finish: Finish
) -> None:
    job = client.submit({"image": URL}, job_id="acme.job.x", webhook=HOOK)
    finish(job.id, [{"text": "a cat"}])
    attempt(outbox, retry_in_s=0)
    last = attempt(outbox)
    assert (last.attempt, last.resent) == (2, False)
    assert log.resend(last)
    again = attempt(outbox)
    assert (again.attempt, again.resent) == (1, True)


def test_an_event_that_waits_for_its_next_attempt_is_due_now(
    client: Client, outbox: WebhookOutbox, log: DeliveryLog, finish: Finish
) -> None:
    job = client.submit({"image": URL}, job_id="acme.job.x", webhook=HOOK)
    finish(job.id, [{"text": "a cat"}])
    waiting = attempt(outbox, retry_in_s=3600)
    assert outbox.claim_due(10, 60) == []
    assert log.resend(waiting)
    assert (attempt(outbox).attempt, outbox.claim_due(10, 60)) == (2, [])


def test_a_later_end_of_the_job_is_not_a_resent_one(
    client: Client, outbox: WebhookOutbox, log: DeliveryLog, finish: Finish
) -> None:
    batch = client.submit_batch([{"image": URL}], batch_id="acme.batch.b", webhook=HOOK)
    failure = {"error": {"code": "image_unreachable", "message": "404"}}
    finish("acme.batch.b:0", [failure])
    assert log.resend(attempt(outbox))
    assert attempt(outbox).resent
    batch.retry_failed()
    finish("acme.batch.b:0", [{"text": "a cat"}])
    assert not attempt(outbox).resent


def test_a_job_that_is_not_stored_has_nothing_to_send(log: DeliveryLog) -> None:
    assert not log.resend(replace(PING, event="job.completed", subject="acme.job.gone"))


def test_a_deferral_after_a_resend_counts_no_attempt_below_zero(
    client: Client, outbox: WebhookOutbox, log: DeliveryLog, finish: Finish
) -> None:
    job = client.submit({"image": URL}, job_id="acme.job.x", webhook=HOOK)
    finish(job.id, [{"text": "a cat"}])
    # Two senders: the lease of the first ends, and the second one delivers.
    (slow,) = outbox.claim_due(10, 0)
    assert log.resend(attempt(outbox))
    outbox.defer(slow, 0)
    assert attempt(outbox).attempt == 1


def test_entries_have_no_empty_fields_and_ignore_those_of_newer_versions() -> None:
    assert '"subject"' not in PING.encode()
    entry = PING.encode().replace("{", '{"later": 1,', 1)
    assert WebhookDelivery.decode(b"1-0", entry.encode()) == replace(PING, id="1-0")
