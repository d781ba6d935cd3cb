"""How often an end is told, and by whom."""

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

from .receiver import receiving, saying, silence
from .sending import (
    LOOPBACK,
    OLD_SECRET,
    SECRET,
    SEND_S,
    EndJob,
    StartSender,
    told,
    wait_until_over,
    wait_until_told,
)


def due_in_s(connection: redis.Redis) -> float:
    ((_, due),) = connection.zrange(Keys().webhooks, 0, -1, withscores=True)
    return float(due) - time.time()


def test_what_failed_is_told_again_under_the_same_id_at_another_time(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis, outcomes: Counter[str]
) -> None:
    with receiving(500, 404, 200) as receiver:
        # So long that the second of the time of each try is another one.
        start_sender(delays_s=(1.1,))
        end_job(receiver.url)
        tries = [receiver.next() for _ in range(3)]
        wait_until_over(connection)
    for one in tries:
        one.verified(SECRET)
    assert len({one.id for one in tries}) == 1
    assert len({one.headers["webhook-timestamp"] for one in tries}) == 3
    assert outcomes == {"failed": 2, "sent": 1}


def test_it_is_told_so_often_and_then_given_up(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    outcomes: Counter[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with receiving(500) as receiver:
        start_sender(tries=3)
        end_job(receiver.url)
        wait_until_over(connection)
    assert len(receiver.received) == 3
    assert outcomes == {"failed": 2, "given_up": 1}
    assert "given up: 500 (try 3)" in caplog.text


def test_pauses_become_longer(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    with receiving(500) as receiver:
        start_sender(delays_s=(0.01, 300, 1800))
        end_job(receiver.url)
        receiver.next()
        receiver.next()
        wait_until(lambda: due_in_s(connection) > 200, "the second pause")
        assert due_in_s(connection) < 400


def test_a_receiver_that_is_gone_is_not_told_again(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis, outcomes: Counter[str]
) -> None:
    with receiving(410) as receiver:
        start_sender()
        end_job(receiver.url)
        wait_until_over(connection)
    assert len(receiver.received) == 1
    assert outcomes == {"given_up": 1}
    assert told(connection) == "410: gone"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("asked", "least_s", "most_s"), [("600", 590, 730), ("999999999", 70_000, 90_000)]
)
def test_a_receiver_may_ask_to_be_left_alone_for_a_time(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    status: int,
    asked: str,
    least_s: float,
    most_s: float,
) -> None:
    with receiving(saying(status, Retry_After=asked)) as receiver:
        start_sender()
        end_job(receiver.url)
        wait_until_told(connection, str(status))
        assert least_s < due_in_s(connection) < most_s


def test_nothing_is_said_in_the_name_of_nobody(
    start_sender: StartSender,
    client: Client,
    connection: redis.Redis,
    finish: Finish,
    outcomes: Counter[str],
) -> None:
    with receiving() as receiver:
        start_sender()
        for job_id in ("plain", "other.job.x", "acme.batch.x"):
            client.submit({"image": URL}, job_id=job_id, webhook=receiver.url)
            finish(job_id, [{"text": "a cat"}])
        wait_until_over(connection)
        assert not receiver.received
    assert outcomes == {"given_up": 3}


def test_two_senders_tell_of_each_end_once(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    with receiving() as receiver:
        for number in range(40):
            end_job(receiver.url, f"x{number}")
        start_sender()
        start_sender()
        wait_until_over(connection)
        ids = Counter(one.data["id"] for one in receiver.received)
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
WebhookSender(outbox, receivers, lambda told: {"id": "x"}, lambda name: [sys.argv[2]],
    lambda event: "acme", lease_s=3).start()
time.sleep(100)
"""


def test_what_a_sender_took_that_was_killed_another_one_tells(
    start_sender: StartSender, end_job: EndJob, redis_url: str, connection: redis.Redis
) -> None:
    with receiving(silence, 200) as receiver:
        end_job(receiver.url)
        command = [sys.executable, "-c", SENDER, redis_url, SECRET]
        with subprocess.Popen(command, cwd=ROOT) as process:
            first = receiver.next()
            process.send_signal(signal.SIGKILL)
        start_sender()
        second = receiver.next()
        wait_until_over(connection)
    assert first.id == second.id


def test_a_slow_receiver_does_not_hold_up_the_others(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    at_once = threading.Semaphore(0)
    over = threading.Event()
    most, now, lock = 0, 0, threading.Lock()

    def slow(request: BaseHTTPRequestHandler) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        at_once.release()
        over.wait(60)
        with lock:
            now -= 1
        saying(200)(request)

    # Not 127.0.0.1 both: it is hosts that have a share.
    with receiving(slow) as tortoise, receiving() as hare:
        for number in range(100):
            end_job(tortoise.url, f"slow{number}")
        # Nobody is given up on: each that is being told is one of those that wait.
        start_sender(send_s=30)
        for _ in range(4):
            assert at_once.acquire(timeout=60)
        end_job(hare.url.replace("127.0.0.1", "localhost"), "quick")
        assert hare.next().data["id"] == "quick"
        assert most == 4
        over.set()
        wait_until_over(connection)
        ids = Counter(one.data["id"] for one in tortoise.received if one.data["id"] != "quick")
    assert most == 4
    # It was put off again and again, and that is no try.
    assert set(ids) == {f"slow{number}" for number in range(100)}


def test_stopping_leaves_what_had_no_turn_to_others(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    over = threading.Event()

    def slow(request: BaseHTTPRequestHandler) -> None:
        over.wait(60)
        saying(200)(request)

    with receiving(slow) as receiver:
        for number in range(10):
            end_job(receiver.url, f"x{number}")
        sender = start_sender()
        for _ in range(4):
            receiver.next()
        sender.stop(timeout_s=0.0)
        over.set()
        # Six were taken and never begun: they are due at once, and it was no try.
        due = WebhookOutbox(connection).claim_due(100, 60)
        assert len(due) == 6
        assert {one.tries for one in due} == {0}


def test_nothing_is_begun_when_others_may_soon_take_it(
    start_sender: StartSender, end_job: EndJob, outbox: WebhookOutbox
) -> None:
    back: list[WebhookEvent] = []
    put_off = outbox.defer

    def noted(one: WebhookEvent, pause_s: float) -> None:
        back.append(one)
        put_off(one, pause_s)

    outbox.defer = noted  # type: ignore[method-assign]
    with receiving() as receiver:
        end_job(receiver.url)
        start_sender(lease_s=SEND_S)
        wait_until(lambda: len(back) > 3, "it to be given back")
        assert not receiver.received
    assert {one.tries for one in back} == {0}


def test_redis_may_go_away_and_come_back(
    end_job: EndJob,
    start_sender: StartSender,
    connection: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with receiving() as receiver:
        broken = threading.Event()
        broken.set()
        outbox = WebhookOutbox(connection)
        due = outbox.claim_due

        def away(most: int, lease_s: float) -> list[WebhookEvent]:
            if broken.is_set():
                raise redis.ConnectionError("away")
            return due(most, lease_s)

        outbox.claim_due = away  # type: ignore[method-assign]
        receivers = WebhookClient(LOOPBACK, connections=16, send_s=SEND_S)
        sender = WebhookSender(
            outbox, receivers, lambda _: {}, lambda _: [SECRET], lambda _: "acme", idle_s=0.01
        )
        sender.start()
        try:
            wait_until(lambda: "wait until Redis answers" in caplog.text, "a line in the log")
            end_job(receiver.url)
            broken.clear()
            receiver.next()
            wait_until(lambda: "sent again" in caplog.text, "a line in the log")
        finally:
            sender.stop()
    assert caplog.text.count("wait until Redis answers") == 1


def test_a_bug_counts_as_a_try(
    end_job: EndJob,
    outbox: WebhookOutbox,
    connection: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: WebhookEvent) -> dict[str, Any]:
        raise KeyError("text")

    receivers = WebhookClient(LOOPBACK, connections=16)
    sender = WebhookSender(
        outbox, receivers, broken, lambda _: [SECRET], lambda _: "acme", tries=2, delays_s=(0.01,)
    )
    sender.start()
    try:
        end_job("http://127.0.0.1:1/")
        wait_until_over(connection)
    finally:
        sender.stop()
    assert "internal error" in caplog.text
    assert told(connection) == "internal error of the gateway"


def test_no_log_line_and_no_note_has_a_secret_or_more_of_the_url_than_its_host(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with receiving(500, saying(302, Location="/private-path"), 200) as receiver:
        start_sender(secrets=(SECRET, OLD_SECRET))
        end_job(f"{receiver.url}/private-path?token=private-query#private-fragment")
        wait_until_over(connection)
        assert receiver.received[-1].path == "/hook/private-path?token=private-query"
        end_job("http://private-user:private-word@127.0.0.1/", "y")
        wait_until_over(connection)
    kept = connection.hgetall(Keys().metadata("acme.job.x"))
    del kept[b"webhook"]
    signature = receiver.received[0].headers["webhook-signature"]
    for text in (caplog.text, str(kept), told(connection, "y")):
        assert "private" not in text
        for secret in (SECRET.removeprefix("whsec_"), OLD_SECRET.removeprefix("whsec_"), signature):
            assert secret not in text
    lines = [one for one in caplog.records if one.name == "blipline.gateway.webhooks"]
    assert len(lines) == 4
    assert "127.0.0.1" in caplog.text
