"""Retries, leases, quotas and failures of the webhook sender."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

import pytest
import redis

from demo.stack import ROOT
from producer import Client
from producer.ledger.keys import Keys
from producer.ledger.outbox import WebhookOutbox
from producer.ledger.records import WebhookEvent
from producer.webhooks.receiver import WebhookClient
from producer.webhooks.sender import WebhookSender
from tests.conftest import Finish
from tests.gateway.samples import URL
from tests.redis_servers import wait_until

from .receiver import respond_with, running_receiver, stay_silent
from .senders import (
    LOOPBACK,
    OLD_SECRET,
    SECRET,
    SEND_S,
    EndJob,
    StartSender,
    last_result,
    wait_for_result,
    wait_until_settled,
)


def due_in_s(connection: redis.Redis) -> float:
    entries: Any = connection.zrange(Keys().webhooks, 0, -1, withscores=True)
    ((_, due),) = entries
    return float(due) - time.time()


def test_a_failed_webhook_is_retried_under_the_same_id(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis, outcomes: Counter[str]
) -> None:
    with running_receiver(500, 404, 200) as receiver:
        # Long enough that each attempt has a different second.
        start_sender(delays_s=(1.1,))
        end_job(receiver.url)
        tries = [receiver.next() for _ in range(3)]
        wait_until_settled(connection)
    for event in tries:
        event.verify(SECRET)
    assert len({event.id for event in tries}) == 1
    assert len({event.headers["webhook-timestamp"] for event in tries}) == 3
    assert outcomes == {"failed": 2, "sent": 1}


def test_a_webhook_is_given_up_after_the_last_try(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    outcomes: Counter[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running_receiver(500) as receiver:
        start_sender(max_attempts=3)
        end_job(receiver.url)
        wait_until_settled(connection)
    assert len(receiver.received) == 3
    assert outcomes == {"failed": 2, "given_up": 1}
    assert "given up: 500 (attempt 3)" in caplog.text


def test_retry_delays_increase(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    with running_receiver(500) as receiver:
        start_sender(delays_s=(0.01, 300, 1800))
        end_job(receiver.url)
        receiver.next()
        receiver.next()
        wait_until(lambda: due_in_s(connection) > 200, "the second pause")
        assert due_in_s(connection) < 400


def test_a_410_ends_the_retries(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis, outcomes: Counter[str]
) -> None:
    with running_receiver(410) as receiver:
        start_sender()
        end_job(receiver.url)
        wait_until_settled(connection)
    assert len(receiver.received) == 1
    assert outcomes == {"given_up": 1}
    assert last_result(connection) == "410: gone"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("requested", "min_s", "max_s"), [("600", 590, 730), ("999999999", 70_000, 90_000)]
)
def test_retry_after_is_honoured_up_to_a_limit(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    status: int,
    requested: str,
    min_s: float,
    max_s: float,
) -> None:
    with running_receiver(respond_with(status, Retry_After=requested)) as receiver:
        start_sender()
        end_job(receiver.url)
        wait_for_result(connection, str(status))
        assert min_s < due_in_s(connection) < max_s


def test_an_event_without_a_tenant_is_given_up(
    start_sender: StartSender,
    client: Client,
    connection: redis.Redis,
    finish: Finish,
    outcomes: Counter[str],
) -> None:
    with running_receiver() as receiver:
        start_sender()
        for job_id in ("plain", "other.job.x", "acme.batch.x"):
            client.submit({"image": URL}, job_id=job_id, webhook=receiver.url)
            finish(job_id, [{"text": "a cat"}])
        wait_until_settled(connection)
        assert not receiver.received
    assert outcomes == {"given_up": 3}


def test_two_senders_deliver_each_event_once(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    with running_receiver() as receiver:
        for number in range(40):
            end_job(receiver.url, f"x{number}")
        start_sender()
        start_sender()
        wait_until_settled(connection)
        ids = Counter(event.data["id"] for event in receiver.received)
    assert ids == {f"x{number}": 1 for number in range(40)}


SENDER: Final = """
import sys, time
import redis
from producer.webhooks.receiver import WebhookClient
from producer.webhooks.sender import WebhookSender
from producer.net.address_policy import AddressPolicy
from producer.ledger import WebhookOutbox

receivers = WebhookClient(AddressPolicy(["127.0.0.0/8"]), connections=16, send_s=1.0)
outbox = WebhookOutbox(redis.Redis.from_url(sys.argv[1]))
WebhookSender(outbox, receivers, lambda event: {"id": "x"}, lambda name: [sys.argv[2]],
    lambda event: "acme", lease_s=3).start()
time.sleep(100)
"""


def test_an_event_of_a_killed_sender_is_delivered_by_another(
    start_sender: StartSender, end_job: EndJob, redis_url: str, connection: redis.Redis
) -> None:
    with running_receiver(stay_silent, 200) as receiver:
        end_job(receiver.url)
        command = [sys.executable, "-c", SENDER, redis_url, SECRET]
        with subprocess.Popen(command, cwd=ROOT) as process:
            first = receiver.next()
            process.send_signal(signal.SIGKILL)
        start_sender()
        second = receiver.next()
        wait_until_settled(connection)
    assert first.id == second.id


def test_a_slow_receiver_does_not_delay_others(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    at_once = threading.Semaphore(0)
    over = threading.Event()
    peak, now, lock = 0, 0, threading.Lock()

    def slow(request: BaseHTTPRequestHandler) -> None:
        nonlocal peak, now
        with lock:
            now += 1
            peak = max(peak, now)
        at_once.release()
        over.wait(60)
        with lock:
            now -= 1
        respond_with(200)(request)

    # Different hosts, because quotas are per host.
    with running_receiver(slow) as tortoise, running_receiver() as hare:
        for number in range(100):
            end_job(tortoise.url, f"slow{number}")
        # No request times out, so each one in progress is one of the waiting ones.
        start_sender(send_s=30)
        for _ in range(4):
            assert at_once.acquire(timeout=60)
        end_job(hare.url.replace("127.0.0.1", "localhost"), "quick")
        assert hare.next().data["id"] == "quick"
        assert peak == 4
        over.set()
        wait_until_settled(connection)
        ids = Counter(
            event.data["id"] for event in tortoise.received if event.data["id"] != "quick"
        )
    assert peak == 4
    # Repeated deferrals do not count as attempts.
    assert set(ids) == {f"slow{number}" for number in range(100)}


def test_stop_gives_back_events_without_a_thread(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    over = threading.Event()

    def slow(request: BaseHTTPRequestHandler) -> None:
        over.wait(60)
        respond_with(200)(request)

    with running_receiver(slow) as receiver:
        for number in range(10):
            end_job(receiver.url, f"x{number}")
        sender = start_sender()
        for _ in range(4):
            receiver.next()
        sender.stop(timeout_s=0.0)
        # Six were claimed but not started: they are due at once, without an attempt.
        due = WebhookOutbox(connection).claim_due(100, 60)
        over.set()
        assert len(due) == 6
        assert {event.attempts for event in due} == {0}


def test_no_request_starts_near_the_end_of_its_lease(
    start_sender: StartSender, end_job: EndJob, outbox: WebhookOutbox
) -> None:
    deferred: list[WebhookEvent] = []
    original_defer = outbox.defer

    def defer(event: WebhookEvent, pause_s: float) -> None:
        deferred.append(event)
        original_defer(event, pause_s)

    outbox.defer = defer  # type: ignore[method-assign]
    with running_receiver() as receiver:
        end_job(receiver.url)
        start_sender(lease_s=SEND_S)
        wait_until(lambda: len(deferred) > 3, "it to be given back")
        assert not receiver.received
    assert {event.attempts for event in deferred} == {0}


def test_the_sender_survives_a_redis_outage(
    end_job: EndJob,
    start_sender: StartSender,
    connection: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with running_receiver() as receiver:
        broken = threading.Event()
        broken.set()
        outbox = WebhookOutbox(connection)
        original_claim_due = outbox.claim_due

        def claim_due(limit: int, lease_s: float) -> list[WebhookEvent]:
            if broken.is_set():
                raise redis.ConnectionError("down")
            return original_claim_due(limit, lease_s)

        outbox.claim_due = claim_due  # type: ignore[method-assign]
        receivers = WebhookClient(LOOPBACK, connections=16, send_s=SEND_S)
        sender = WebhookSender(
            outbox, receivers, lambda _: {}, lambda _: [SECRET], lambda _: "acme", idle_s=0.01
        )
        sender.start()
        try:
            wait_until(lambda: "webhook delivery paused" in caplog.text, "a line in the log")
            end_job(receiver.url)
            broken.clear()
            receiver.next()
            wait_until(lambda: "delivery resumed" in caplog.text, "a line in the log")
        finally:
            sender.stop()
    assert caplog.text.count("webhook delivery paused") == 1


def test_an_internal_error_counts_as_a_try(
    end_job: EndJob,
    outbox: WebhookOutbox,
    connection: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: WebhookEvent) -> dict[str, Any]:
        raise KeyError("text")

    receivers = WebhookClient(LOOPBACK, connections=16)
    sender = WebhookSender(
        outbox,
        receivers,
        broken,
        lambda _: [SECRET],
        lambda _: "acme",
        max_attempts=2,
        delays_s=(0.01,),
    )
    sender.start()
    try:
        end_job("http://127.0.0.1:1/")
        wait_until_settled(connection)
    finally:
        sender.stop()
    assert "internal error" in caplog.text
    assert last_result(connection) == "internal error of the gateway"


def test_logs_and_notes_contain_no_secret_and_only_the_host_of_a_url(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with running_receiver(500, respond_with(302, Location="/private-path"), 200) as receiver:
        start_sender(secrets=(SECRET, OLD_SECRET))
        end_job(f"{receiver.url}/private-path?token=private-query#private-fragment")
        wait_until_settled(connection)
        assert receiver.received[-1].path == "/hook/private-path?token=private-query"
        end_job("http://private-user:private-word@127.0.0.1/", "y")
        wait_until_settled(connection)
    stored = connection.hgetall(Keys().metadata("acme.job.x"))
    del stored[b"webhook"]
    signature = receiver.received[0].headers["webhook-signature"]
    for text in (caplog.text, str(stored), last_result(connection, "y")):
        assert "private" not in text
        for secret in (SECRET.removeprefix("whsec_"), OLD_SECRET.removeprefix("whsec_"), signature):
            assert secret not in text
    lines = [event for event in caplog.records if event.name == "blipline.gateway.webhooks"]
    assert len(lines) == 4
    assert "127.0.0.1" in caplog.text
