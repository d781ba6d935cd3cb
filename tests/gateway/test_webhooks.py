"""Telling of ends: what is said, to whom, and how often."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

import pytest
import redis
from standardwebhooks import Webhook, WebhookVerificationError

from demo.stack import ROOT, free_port
from producer import Client
from producer.api_keys import ApiKeys
from producer.contract import Task
from producer.gateway.ends import Ends
from producer.gateway.notes import Noted
from producer.gateway.receivers import Receivers, Verdict, read
from producer.gateway.sender import Sender
from producer.gateway.shares import HELD, HELD_EACH_HOST, HELD_EACH_NAME, Shares
from producer.gateway.webhooks import message, message_id
from producer.guard import Guard
from producer.keys import Keys
from producer.ledger import Ledger
from producer.rows import Announcement
from tests.gateway.receiver import Answering, receiving, saying
from tests.redis_servers import wait_until

URL: Final = "https://images.example.com/cat.jpg"
SECRET: Final = "whsec_" + base64.b64encode(b"a secret of 32 bytes, no less..!").decode()
OLD_SECRET: Final = "whsec_" + base64.b64encode(b"the one that it has replaced...!").decode()
LOOPBACK: Final = Guard(["127.0.0.0/8", "::1"])
#: Seconds that a test's sender gives a receiver.
SEND_S: Final = 2.0
END: Final = Announcement("job", "acme.job.x", "https://h.example/hook", 1, 0, "")

Finish = Callable[[str, list[dict[str, Any]]], None]
Start = Callable[..., Sender]


@pytest.fixture
def ledger(connection: redis.Redis) -> Ledger:
    return Ledger(connection)


@pytest.fixture
def outcomes() -> Counter[str]:
    """What the senders of a test counted."""
    return Counter()


@pytest.fixture
def start(
    connection: redis.Redis, redis_url: str, ledger: Ledger, outcomes: Counter[str]
) -> Iterator[Start]:
    """Starts senders: `start(guard=…, secrets=…, send_s=…, **more)`."""
    with ExitStack() as stack:

        def started(
            guard: Guard = LOOPBACK,
            secrets: tuple[str, ...] = (SECRET,),
            send_s: float = SEND_S,
            **more: Any,
        ) -> Sender:
            given: dict[str, Any] = {"pauses_s": (0.01,), "idle_s": 0.05, **more}
            sender = Sender(
                ledger,
                Receivers(guard, connections=16, send_s=send_s),
                Ends(connection, ledger, redis_url).read,
                lambda name: secrets if name == "acme" else (),
                count=lambda outcome: outcomes.update([outcome]),
                **given,
            )
            stack.callback(sender.stop)
            sender.start()
            return sender

        yield started


@pytest.fixture
def end(client: Client, finish: Finish) -> Callable[..., None]:
    """Ends a job of acme that wants a URL to be told: `end(url, "x")`."""

    def ended(url: str, name: str = "x", result: dict[str, Any] | None = None) -> None:
        submit(client, url, name)
        finish(f"acme.job.{name}", [result or {"text": "a cat"}])

    return ended


End = Callable[..., None]


def submit(client: Client, url: str, name: str = "x") -> None:
    note = Noted(Task.CAPTION, 1_790_000_000.5).encode()
    client.submit({"image": URL}, job_id=f"acme.job.{name}", note=note, webhook=url)


def told(connection: redis.Redis, name: str = "x") -> str:
    """What is noted of the last try to tell of a job."""
    found: Any = connection.hget(Keys().note(f"acme.job.{name}"), "webhook_told")
    return (found or b"").decode()


def wait_until_told(connection: redis.Redis, about: str, name: str = "x") -> None:
    wait_until(lambda: about in told(connection, name), f"{about!r} to be noted")


def wait_until_over(connection: redis.Redis) -> None:
    wait_until(lambda: not connection.exists(Keys().webhooks), "nothing to be left to tell")


def due_in_s(connection: redis.Redis) -> float:
    ((_, due),) = connection.zrange(Keys().webhooks, 0, -1, withscores=True)
    return float(due) - time.time()


# What is said.


def test_the_library_of_the_convention_verifies_what_is_said() -> None:
    said = message(END, {"id": "x"}, [SECRET], datetime.now(UTC))
    assert Webhook(SECRET).verify(said.body, dict(said.headers))["data"] == {"id": "x"}
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD_SECRET).verify(said.body, dict(said.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(said.body + " ", dict(said.headers))


def test_whoever_has_no_library_verifies_it_as_the_docs_show() -> None:
    said = message(END, {"text": "café"}, [SECRET, OLD_SECRET], datetime.now(UTC))
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = f"{said.headers['webhook-id']}.{said.headers['webhook-timestamp']}.{said.body}"
    digest = hmac.new(key, signed.encode(), hashlib.sha256).digest()
    right = f"v1,{base64.b64encode(digest).decode()}"
    assert right in said.headers["webhook-signature"].split(" ")


def test_all_secrets_of_a_name_sign() -> None:
    said = message(END, {}, [SECRET, OLD_SECRET], datetime.now(UTC))
    for secret in (SECRET, OLD_SECRET):
        Webhook(secret).verify(said.body, dict(said.headers))


@pytest.mark.parametrize(
    "other",
    [
        Announcement("batch", END.id, END.url, 1, 0, ""),
        Announcement("job", "acme.job.y", END.url, 1, 0, ""),
        Announcement("job", END.id, END.url, 2, 0, ""),
        Announcement("job", END.id, END.url, 1, 0, '{"created_at": 1790000000.5}'),
    ],
)
def test_the_id_of_a_message_is_that_of_one_end(other: Announcement) -> None:
    again = Announcement("job", END.id, END.url, 1, tries=3, note="")
    assert message_id(again) == message_id(END)
    assert message_id(other) != message_id(END)
    # It is a header, and what begins with the name of another is nobody's business.
    assert message_id(END).isascii()
    assert "acme" not in message_id(END)


@pytest.mark.parametrize(
    ("status", "verdict", "about"),
    [
        (200, Verdict.TOLD, "200"),
        (204, Verdict.TOLD, "204"),
        (301, Verdict.AGAIN, "redirects are not followed"),
        (404, Verdict.AGAIN, "404"),
        (410, Verdict.NEVER, "gone"),
        (500, Verdict.AGAIN, "500"),
    ],
)
def test_what_a_status_means(status: int, verdict: Verdict, about: str) -> None:
    answer = read(status, "60")
    assert answer.verdict is verdict
    assert about in answer.about
    assert answer.asked_s == 0


# To whom, and how often.


@pytest.mark.parametrize(
    ("result", "status", "output", "code"),
    [
        ({"text": "a cat"}, "done", {"text": "a cat"}, None),
        ({"error": {"code": "image_invalid", "message": "no"}}, "failed", None, "image_invalid"),
        ({"error": {"code": "cancelled", "message": "no"}}, "cancelled", None, "cancelled"),
    ],
)
def test_the_end_of_a_job_is_told_as_get_says_it(
    start: Start,
    end: End,
    connection: redis.Redis,
    outcomes: Counter[str],
    result: dict[str, Any],
    status: str,
    output: Any,
    code: str | None,
) -> None:
    with receiving() as receiver:
        start()
        end(receiver.url, result=result)
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
    start: Start, client: Client, connection: redis.Redis, finish: Finish
) -> None:
    note = Noted(Task.CAPTION, 1_790_000_000.5).encode()
    with receiving() as receiver:
        start()
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
    start: Start, end: End, connection: redis.Redis
) -> None:
    with receiving() as receiver:
        end(receiver.url)
        connection.delete(Keys().result("acme.job.x"))
        start()
        assert receiver.next().data["status"] == "expired"


def test_what_was_asked_again_meanwhile_is_not_told_of_yet(
    start: Start, client: Client, connection: redis.Redis, finish: Finish
) -> None:
    note = Noted(Task.CAPTION, 1_790_000_000.5).encode()
    with receiving() as receiver:
        hook = {"note": note, "webhook": receiver.url}
        batch = client.submit_batch([URL], batch_id="acme.batch.photos", **hook)
        finish(f"{batch.id}:0", [{"error": {"code": "image_unreachable", "message": "down"}}])
        batch.retry_failed()
        start()
        wait_until_over(connection)
        assert not receiver.received
        finish(f"{batch.id}:0", [{"text": "a cat"}])
        assert receiver.next().data["status"] == "done"


def test_what_failed_is_told_again_under_the_same_id_at_another_time(
    start: Start, end: End, connection: redis.Redis, outcomes: Counter[str]
) -> None:
    with receiving(500, 404, 200) as receiver:
        # So long that the second of the time of each try is another one.
        start(pauses_s=(1.1,))
        end(receiver.url)
        tries = [receiver.next() for _ in range(3)]
        wait_until_over(connection)
    for one in tries:
        one.verified(SECRET)
    assert len({one.id for one in tries}) == 1
    assert len({one.headers["webhook-timestamp"] for one in tries}) == 3
    assert outcomes == {"failed": 2, "sent": 1}


def test_it_is_told_so_often_and_then_given_up(
    start: Start,
    end: End,
    connection: redis.Redis,
    outcomes: Counter[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with receiving(500) as receiver:
        start(tries=3)
        end(receiver.url)
        wait_until_over(connection)
    assert len(receiver.received) == 3
    assert outcomes == {"failed": 2, "given_up": 1}
    assert "given up: 500 (try 3)" in caplog.text


def test_pauses_become_longer(start: Start, end: End, connection: redis.Redis) -> None:
    with receiving(500) as receiver:
        start(pauses_s=(0.01, 300, 1800))
        end(receiver.url)
        receiver.next()
        receiver.next()
        wait_until(lambda: due_in_s(connection) > 200, "the second pause")
        assert due_in_s(connection) < 400


def test_a_receiver_that_is_gone_is_not_told_again(
    start: Start, end: End, connection: redis.Redis, outcomes: Counter[str]
) -> None:
    with receiving(410) as receiver:
        start()
        end(receiver.url)
        wait_until_over(connection)
    assert len(receiver.received) == 1
    assert outcomes == {"given_up": 1}
    assert told(connection) == "410: gone"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("asked", "least_s", "most_s"), [("600", 590, 730), ("999999999", 70_000, 90_000)]
)
def test_a_receiver_may_ask_to_be_left_alone_for_a_time(
    start: Start,
    end: End,
    connection: redis.Redis,
    status: int,
    asked: str,
    least_s: float,
    most_s: float,
) -> None:
    with receiving(saying(status, Retry_After=asked)) as receiver:
        start()
        end(receiver.url)
        wait_until_told(connection, str(status))
        assert least_s < due_in_s(connection) < most_s


def test_a_redirect_is_a_failure_and_not_followed(
    start: Start, end: End, connection: redis.Redis
) -> None:
    with receiving() as canary:
        for status in (301, 302, 303, 307, 308):
            with receiving(saying(status, Location=canary.url)) as receiver:
                start(tries=1)
                end(receiver.url, f"x{status}")
                wait_until_told(connection, "redirects are not followed", f"x{status}")
    assert canary.connections == 0


def test_a_redirect_to_nowhere_is_an_answer_that_cannot_be_read(
    start: Start, end: End, connection: redis.Redis
) -> None:
    with receiving(saying(302, Location="http://[::1/secret")) as receiver:
        start(tries=1)
        end(receiver.url)
        wait_until_over(connection)
    assert "no answer that can be read" in told(connection)
    assert "secret" not in told(connection)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"])
def test_an_inner_address_is_never_connected_to(
    start: Start, end: End, connection: redis.Redis, outcomes: Counter[str], host: str
) -> None:
    with receiving() as canary:
        start(guard=Guard())
        end(canary.url.replace("127.0.0.1", host))
        wait_until_over(connection)
    assert canary.connections == 0
    assert outcomes == {"given_up": 1}
    assert told(connection).startswith("blocked")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "http://u:p@127.0.0.1/", "http://[::1", "x"])
def test_what_is_no_url_for_a_webhook_is_given_up(
    start: Start, end: End, connection: redis.Redis, outcomes: Counter[str], url: str
) -> None:
    start()
    end(url)
    wait_until_over(connection)
    assert outcomes == {"given_up": 1}


def test_a_receiver_that_is_down_is_told_later(
    start: Start, end: End, connection: redis.Redis
) -> None:
    start(tries=2)
    end(f"http://127.0.0.1:{free_port()}/hook")
    wait_until_over(connection)
    assert told(connection).startswith("no connection")


def drip_a_head(request: BaseHTTPRequestHandler) -> None:
    """A status line that never ends, a byte at a time."""
    while True:
        request.wfile.write(b"H" if request.wfile else b"")
        time.sleep(0.1)


def drip_headers(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        request.wfile.write(b"a: b\r\n")
        time.sleep(0.1)


def silence(request: BaseHTTPRequestHandler) -> None:
    time.sleep(30)


@pytest.mark.parametrize("answer", [drip_a_head, drip_headers, silence])
def test_a_receiver_that_takes_too_long_is_told_later(
    start: Start, end: End, connection: redis.Redis, outcomes: Counter[str], answer: Answering
) -> None:
    with receiving(answer) as receiver:
        start(tries=1)
        end(receiver.url)
        wait_until_over(connection)
        assert outcomes == {"given_up": 1}


@pytest.mark.parametrize("length", [None, "1000000000000", "4000"])
def test_a_body_without_an_end_is_not_read(
    start: Start, end: End, connection: redis.Redis, length: str | None
) -> None:
    written = 0

    def endless(request: BaseHTTPRequestHandler) -> None:
        nonlocal written
        request.send_response(200)
        if length is not None:
            request.send_header("Content-Length", length)
        request.end_headers()
        while True:
            request.wfile.write(b"x" * 65_536)
            written += 65_536

    with receiving(endless) as receiver:
        start()
        end(receiver.url)
        wait_until_over(connection)
        assert told(connection) == "200"
    # What fits into the buffers of two sockets; what is read goes on and on.
    assert written < 1 << 26


def test_a_short_body_leaves_the_connection_open_for_the_next(
    start: Start, end: End, connection: redis.Redis
) -> None:
    def thanks(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "6")
        request.end_headers()
        request.wfile.write(b"thanks")

    with receiving(thanks) as receiver:
        start()
        for number in range(3):
            end(receiver.url, f"x{number}")
            receiver.next()
            wait_until_over(connection)
        assert receiver.connections == 1


def test_nothing_is_said_in_the_name_of_nobody(
    start: Start, client: Client, connection: redis.Redis, finish: Finish, outcomes: Counter[str]
) -> None:
    with receiving() as receiver:
        start()
        for job_id in ("plain", "other.job.x", "acme.batch.x"):
            client.submit({"image": URL}, job_id=job_id, webhook=receiver.url)
            finish(job_id, [{"text": "a cat"}])
        wait_until_over(connection)
        assert not receiver.received
    assert outcomes == {"given_up": 3}


# Several senders, and slow receivers.


def test_two_senders_tell_of_each_end_once(start: Start, end: End, connection: redis.Redis) -> None:
    with receiving() as receiver:
        for number in range(40):
            end(receiver.url, f"x{number}")
        start()
        start()
        wait_until_over(connection)
        ids = Counter(one.data["id"] for one in receiver.received)
    assert ids == {f"x{number}": 1 for number in range(40)}


SENDER: Final = """
import sys, time
import redis
from producer.gateway.receivers import Receivers
from producer.gateway.sender import Sender
from producer.guard import Guard
from producer.ledger import Ledger

receivers = Receivers(Guard(["127.0.0.0/8"]), connections=16, send_s=1.0)
ledger = Ledger(redis.Redis.from_url(sys.argv[1]))
Sender(ledger, receivers, lambda told: {"id": "x"}, lambda name: [sys.argv[2]], lease_s=3).start()
time.sleep(100)
"""


def test_what_a_sender_took_that_was_killed_another_one_tells(
    start: Start, end: End, redis_url: str, connection: redis.Redis
) -> None:
    with receiving(silence, 200) as receiver:
        end(receiver.url)
        command = [sys.executable, "-c", SENDER, redis_url, SECRET]
        with subprocess.Popen(command, cwd=ROOT) as process:
            first = receiver.next()
            process.send_signal(signal.SIGKILL)
        start()
        second = receiver.next()
        wait_until_over(connection)
    assert first.id == second.id


def test_a_slow_receiver_does_not_hold_up_the_others(
    start: Start, end: End, connection: redis.Redis
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
            end(tortoise.url, f"slow{number}")
        # Nobody is given up on: each that is being told is one of those that wait.
        start(send_s=30)
        for _ in range(4):
            assert at_once.acquire(timeout=60)
        end(hare.url.replace("127.0.0.1", "localhost"), "quick")
        assert hare.next().data["id"] == "quick"
        assert most == 4
        over.set()
        wait_until_over(connection)
        ids = Counter(one.data["id"] for one in tortoise.received if one.data["id"] != "quick")
    assert most == 4
    # It was put off again and again, and that is no try.
    assert set(ids) == {f"slow{number}" for number in range(100)}


def test_stopping_leaves_what_had_no_turn_to_others(
    start: Start, end: End, connection: redis.Redis
) -> None:
    over = threading.Event()

    def slow(request: BaseHTTPRequestHandler) -> None:
        over.wait(60)
        saying(200)(request)

    with receiving(slow) as receiver:
        for number in range(10):
            end(receiver.url, f"x{number}")
        sender = start()
        for _ in range(4):
            receiver.next()
        sender.stop(wait_s=0.0)
        over.set()
        # Six were taken and never begun: they are due at once, and it was no try.
        due = Ledger(connection).webhooks_due(100, 60)
        assert len(due) == 6
        assert {one.tries for one in due} == {0}


def test_a_host_and_a_name_have_a_share_of_what_is_held() -> None:
    shares = Shares()
    for _ in range(HELD_EACH_HOST):
        assert shares.take(("slow.example", "acme")) is None
    assert shares.take(("slow.example", "other")) is not None
    for _ in range(HELD_EACH_NAME - HELD_EACH_HOST):
        assert shares.take(("quick.example", "acme")) is None
    assert shares.take(("third.example", "acme")) is not None
    assert shares.take(("third.example", "other")) is None
    shares.give_back(("slow.example", "acme"))
    assert shares.take(("slow.example", "acme")) is None
    assert shares.room == HELD - HELD_EACH_NAME - 1


def test_what_is_put_off_comes_again_within_a_minute() -> None:
    shares = Shares()
    for _ in range(HELD_EACH_HOST):
        shares.take(("slow.example", ""))
    pauses_s = [shares.take(("slow.example", "")) or 0.0 for _ in range(20_000)]
    assert max(pauses_s[:10]) < 1
    assert 30 < max(pauses_s) < 61
    assert min(pauses_s) > 0


def test_nothing_is_begun_when_others_may_soon_take_it(
    start: Start, end: End, ledger: Ledger
) -> None:
    back: list[Announcement] = []
    put_off = ledger.webhook_put_off

    def noted(one: Announcement, pause_s: float) -> None:
        back.append(one)
        put_off(one, pause_s)

    ledger.webhook_put_off = noted  # type: ignore[method-assign]
    with receiving() as receiver:
        end(receiver.url)
        start(lease_s=SEND_S)
        wait_until(lambda: len(back) > 3, "it to be given back")
        assert not receiver.received
    assert {one.tries for one in back} == {0}


# What may go wrong beside that.


def test_redis_may_go_away_and_come_back(
    end: End, start: Start, connection: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with receiving() as receiver:
        broken = threading.Event()
        broken.set()
        ledger = Ledger(connection)
        due = ledger.webhooks_due

        def away(most: int, lease_s: float) -> list[Announcement]:
            if broken.is_set():
                raise redis.ConnectionError("away")
            return due(most, lease_s)

        ledger.webhooks_due = away  # type: ignore[method-assign]
        receivers = Receivers(LOOPBACK, connections=16, send_s=SEND_S)
        sender = Sender(ledger, receivers, lambda _: {}, lambda _: [SECRET], idle_s=0.01)
        sender.start()
        try:
            wait_until(lambda: "wait until Redis answers" in caplog.text, "a line in the log")
            end(receiver.url)
            broken.clear()
            receiver.next()
            wait_until(lambda: "sent again" in caplog.text, "a line in the log")
        finally:
            sender.stop()
    assert caplog.text.count("wait until Redis answers") == 1


def test_a_bug_counts_as_a_try(
    end: End, ledger: Ledger, connection: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Announcement) -> dict[str, Any]:
        raise KeyError("text")

    receivers = Receivers(LOOPBACK, connections=16)
    sender = Sender(ledger, receivers, broken, lambda _: [SECRET], tries=2, pauses_s=(0.01,))
    sender.start()
    try:
        end("http://127.0.0.1:1/")
        wait_until_over(connection)
    finally:
        sender.stop()
    assert "this is a bug" in caplog.text
    assert told(connection) == "a bug of the gateway"


def test_no_log_line_and_no_note_has_a_secret_or_more_of_the_url_than_its_host(
    start: Start, end: End, connection: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with receiving(500, saying(302, Location="/private-path"), 200) as receiver:
        start(secrets=(SECRET, OLD_SECRET))
        end(f"{receiver.url}/private-path?token=private-query#private-fragment")
        wait_until_over(connection)
        assert receiver.received[-1].path == "/hook/private-path?token=private-query"
        end("http://private-user:private-word@127.0.0.1/", "y")
        wait_until_over(connection)
    kept = connection.hgetall(Keys().note("acme.job.x"))
    del kept[b"webhook"]
    signature = receiver.received[0].headers["webhook-signature"]
    for text in (caplog.text, str(kept), told(connection, "y")):
        assert "private" not in text
        for secret in (SECRET.removeprefix("whsec_"), OLD_SECRET.removeprefix("whsec_"), signature):
            assert secret not in text
    lines = [one for one in caplog.records if one.name == "blipline.gateway.webhooks"]
    assert len(lines) == 4
    assert "127.0.0.1" in caplog.text


# Through a gateway's own process.


def test_a_gateway_tells_of_a_job_that_came_over_http(
    start_gateway: Any, connection: redis.Redis, finish: Finish
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
    start_gateway: Any, connection: redis.Redis, finish: Finish
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
    start_gateway: Any, connection: redis.Redis, finish: Finish
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
    start_gateway: Any, connection: redis.Redis, finish: Finish
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
