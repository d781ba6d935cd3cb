"""Attempts in the delivery log, as the sender records them."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from producer import Client
from producer.ledger.delivery_log import DeliveryLog
from producer.ledger.keys import Keys
from producer.net.address_policy import AddressPolicy
from producer.net.http_client import origin_of

from .receiver import respond_with, running_receiver
from .senders import EndJob, StartSender, wait_until_settled


def add_event(connection: redis.Redis, job_id: str, url: str) -> None:
    """Add an event of a job to the outbox, whatever its state."""
    fields: Any = {"webhook": url, "webhook_event": 1, "webhook_tries": 0}
    connection.hset(Keys().metadata(job_id), mapping=fields)
    connection.zadd(Keys().webhooks, {f"job {job_id}": 0})


def test_each_attempt_is_logged_with_its_outcome_and_the_next_one(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    before = time.time()
    with running_receiver(503, 200) as receiver:
        start_sender()
        end_job(f"{receiver.url}/T0SECRET?token=private-query")
        receiver.next()
        received = receiver.next()
        wait_until_settled(connection)
        last, first = DeliveryLog(connection).page("acme")
        assert first.url == receiver.url.removesuffix("/hook")
    assert (first.status, first.status_code, first.attempt) == ("retrying", 503, 1)
    assert first.error == "the receiver responded 503"
    assert (last.status, last.status_code, last.error, last.attempt) == ("delivered", 200, "", 2)
    assert last.next_attempt_at is None
    assert first.next_attempt_at is not None
    assert before <= first.at <= first.next_attempt_at <= time.time()
    for delivery in (first, last):
        assert (delivery.event, delivery.subject) == ("job.completed", "acme.job.x")
        assert (delivery.message_id, delivery.resent) == (received.id, False)
    stored = str(connection.xrange(Keys().deliveries("acme")))
    assert "SECRET" not in stored
    assert "private-query" not in stored


@pytest.mark.parametrize(
    ("answer", "status_code", "error"),
    [
        (410, 410, "the receiver responded 410: gone"),
        (respond_with(302, Location="/x"), 302, "the receiver responded 302: redirects are not"),
    ],
)
def test_the_cause_of_a_failure_names_the_response(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    answer: int,
    status_code: int,
    error: str,
) -> None:
    with running_receiver(answer) as receiver:
        start_sender(max_attempts=1)
        end_job(receiver.url)
        wait_until_settled(connection)
    (delivery,) = DeliveryLog(connection).page("acme")
    assert (delivery.status, delivery.status_code) == ("failed", status_code)
    assert delivery.error.startswith(error)


def test_a_blocked_address_and_a_deleted_batch_are_failures_without_a_response(
    start_sender: StartSender, end_job: EndJob, client: Client, connection: redis.Redis
) -> None:
    with running_receiver() as receiver:
        end_job(receiver.url, "blocked")
        start_sender(policy=AddressPolicy([]))
        wait_until_settled(connection)
        (delivery,) = DeliveryLog(connection).page("acme")
        assert (delivery.status, delivery.status_code) == ("failed", None)
        assert delivery.error.startswith("blocked: 127.0.0.1")
        client.submit({"image": "https://x.example/a.jpg"}, job_id="acme.job.open", note="{}")
        add_event(connection, "acme.job.open", receiver.url)
        wait_until_settled(connection)
        assert receiver.connections == 0
    delivery = DeliveryLog(connection).page("acme")[0]
    assert delivery.error == "the job or batch was reopened or deleted"


def test_an_event_without_an_api_key_is_in_no_log(
    start_sender: StartSender, client: Client, connection: redis.Redis
) -> None:
    add_event(connection, "free", "http://backend.example.com/")
    start_sender(max_attempts=1)
    wait_until_settled(connection)
    assert list(connection.scan_iter("*deliveries*")) == []


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        (
            "https://user:pass@Hooks.Example.com:8443/a/SECRET?k=v#f",
            "https://hooks.example.com:8443",
        ),
        ("http://[::1]/x", "http://[::1]"),
        ("https://hooks.example.com:443", "https://hooks.example.com"),
        ("mailto:someone", ""),
        ("not a URL", ""),
    ],
)
def test_an_origin_has_only_scheme_host_and_port(url: str, origin: str) -> None:
    assert origin_of(url) == origin
