"""Receivers of webhooks, and what they may do to who tells them."""

from __future__ import annotations

import time
from collections import Counter
from http.server import BaseHTTPRequestHandler

import pytest
import redis

from demo.stack import free_port
from producer.net.address_policy import AddressPolicy
from producer.webhooks.receiver import Verdict, delivery_of

from .receiver import Answering, receiving, saying, silence
from .sending import (
    EndJob,
    StartSender,
    told,
    wait_until_over,
    wait_until_told,
)


@pytest.mark.parametrize(
    ("status", "verdict", "about"),
    [
        (200, Verdict.DELIVERED, "200"),
        (204, Verdict.DELIVERED, "204"),
        (301, Verdict.RETRY, "redirects are not followed"),
        (404, Verdict.RETRY, "404"),
        (410, Verdict.GIVE_UP, "gone"),
        (500, Verdict.RETRY, "500"),
    ],
)
def test_what_a_status_means(status: int, verdict: Verdict, about: str) -> None:
    answer = delivery_of(status, "60")
    assert answer.verdict is verdict
    assert about in answer.detail
    assert answer.retry_after_s == 0


def test_a_redirect_is_a_failure_and_not_followed(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    with receiving() as canary:
        for status in (301, 302, 303, 307, 308):
            with receiving(saying(status, Location=canary.url)) as receiver:
                start_sender(tries=1)
                end_job(receiver.url, f"x{status}")
                wait_until_told(connection, "redirects are not followed", f"x{status}")
    assert canary.connections == 0


def test_a_redirect_to_nowhere_is_an_answer_that_cannot_be_read(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    with receiving(saying(302, Location="http://[::1/secret")) as receiver:
        start_sender(tries=1)
        end_job(receiver.url)
        wait_until_over(connection)
    assert "no answer that can be read" in told(connection)
    assert "secret" not in told(connection)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"])
def test_an_inner_address_is_never_connected_to(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    outcomes: Counter[str],
    host: str,
) -> None:
    with receiving() as canary:
        start_sender(guard=AddressPolicy())
        end_job(canary.url.replace("127.0.0.1", host))
        wait_until_over(connection)
    assert canary.connections == 0
    assert outcomes == {"given_up": 1}
    assert told(connection).startswith("blocked")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "http://u:p@127.0.0.1/", "http://[::1", "x"])
def test_what_is_no_url_for_a_webhook_is_given_up(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    outcomes: Counter[str],
    url: str,
) -> None:
    start_sender()
    end_job(url)
    wait_until_over(connection)
    assert outcomes == {"given_up": 1}


def test_a_receiver_that_is_down_is_told_later(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    start_sender(tries=2)
    end_job(f"http://127.0.0.1:{free_port()}/hook")
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


@pytest.mark.parametrize("answer", [drip_a_head, drip_headers, silence])
def test_a_receiver_that_takes_too_long_is_told_later(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    outcomes: Counter[str],
    answer: Answering,
) -> None:
    with receiving(answer) as receiver:
        start_sender(tries=1)
        end_job(receiver.url)
        wait_until_over(connection)
        assert outcomes == {"given_up": 1}


@pytest.mark.parametrize("length", [None, "1000000000000", "4000"])
def test_a_body_without_an_end_is_not_read(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis, length: str | None
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
        start_sender()
        end_job(receiver.url)
        wait_until_over(connection)
        assert told(connection) == "200"
    # What fits into the buffers of two sockets; what is read goes on and on.
    assert written < 1 << 26


def test_a_short_body_leaves_the_connection_open_for_the_next(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    def thanks(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "6")
        request.end_headers()
        request.wfile.write(b"thanks")

    with receiving(thanks) as receiver:
        start_sender()
        for number in range(3):
            end_job(receiver.url, f"x{number}")
            receiver.next()
            wait_until_over(connection)
        assert receiver.connections == 1
