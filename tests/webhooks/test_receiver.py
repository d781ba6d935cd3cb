"""Delivery to receivers that redirect, time out, or are unreachable or blocked."""

from __future__ import annotations

import time
from collections import Counter
from http.server import BaseHTTPRequestHandler

import pytest
import redis

from demo.stack import free_port
from producer.net.address_policy import AddressPolicy
from producer.webhooks.receiver import Verdict, delivery_of

from .receiver import Responder, respond_with, running_receiver, stay_silent
from .senders import (
    EndJob,
    StartSender,
    last_result,
    wait_for_result,
    wait_until_settled,
)


@pytest.mark.parametrize(
    ("status", "verdict", "expected"),
    [
        (200, Verdict.DELIVERED, "200"),
        (204, Verdict.DELIVERED, "204"),
        (301, Verdict.RETRY, "redirects are not followed"),
        (404, Verdict.RETRY, "404"),
        (410, Verdict.GIVE_UP, "gone"),
        (500, Verdict.RETRY, "500"),
    ],
)
def test_a_status_determines_the_verdict(status: int, verdict: Verdict, expected: str) -> None:
    delivery = delivery_of(status, "60")
    assert delivery.verdict is verdict
    assert expected in delivery.detail
    assert delivery.retry_after_s == 0


def test_a_redirect_is_not_followed(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    with running_receiver() as canary:
        for status in (301, 302, 303, 307, 308):
            with running_receiver(respond_with(status, Location=canary.url)) as receiver:
                start_sender(max_attempts=1)
                end_job(receiver.url, f"x{status}")
                wait_for_result(connection, "redirects are not followed", f"x{status}")
    assert canary.connections == 0


def test_an_invalid_redirect_is_an_unreadable_response(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    with running_receiver(respond_with(302, Location="http://[::1/secret")) as receiver:
        start_sender(max_attempts=1)
        end_job(receiver.url)
        wait_until_settled(connection)
    assert "unreadable response" in last_result(connection)
    assert "secret" not in last_result(connection)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"])
def test_an_internal_address_is_never_connected_to(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    outcomes: Counter[str],
    host: str,
) -> None:
    with running_receiver() as canary:
        start_sender(policy=AddressPolicy())
        end_job(canary.url.replace("127.0.0.1", host))
        wait_until_settled(connection)
    assert canary.connections == 0
    assert outcomes == {"given_up": 1}
    assert last_result(connection).startswith("blocked")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "http://u:p@127.0.0.1/", "http://[::1", "x"])
def test_an_invalid_url_is_given_up(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    outcomes: Counter[str],
    url: str,
) -> None:
    start_sender()
    end_job(url)
    wait_until_settled(connection)
    assert outcomes == {"given_up": 1}


def test_a_receiver_that_is_down_is_retried(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    start_sender(max_attempts=2)
    end_job(f"http://127.0.0.1:{free_port()}/hook")
    wait_until_settled(connection)
    assert last_result(connection).startswith("no connection")


def drip_a_head(request: BaseHTTPRequestHandler) -> None:
    """Send an endless status line, a byte at a time."""
    while True:
        request.wfile.write(b"H" if request.wfile else b"")
        time.sleep(0.1)


def drip_headers(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        request.wfile.write(b"a: b\r\n")
        time.sleep(0.1)


@pytest.mark.parametrize("responder", [drip_a_head, drip_headers, stay_silent])
def test_a_receiver_that_times_out_is_retried(
    start_sender: StartSender,
    end_job: EndJob,
    connection: redis.Redis,
    outcomes: Counter[str],
    responder: Responder,
) -> None:
    with running_receiver(responder) as receiver:
        start_sender(max_attempts=1)
        end_job(receiver.url)
        wait_until_settled(connection)
        assert outcomes == {"given_up": 1}


@pytest.mark.parametrize("length", [None, "1000000000000", "4000"])
def test_an_endless_response_is_not_read(
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

    with running_receiver(endless) as receiver:
        start_sender()
        end_job(receiver.url)
        wait_until_settled(connection)
        assert last_result(connection) == "200"
    # It fits into the buffers of two sockets; an endless read would exceed them.
    assert written < 1 << 26


def test_a_short_response_keeps_the_connection_reusable(
    start_sender: StartSender, end_job: EndJob, connection: redis.Redis
) -> None:
    def thanks(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "6")
        request.end_headers()
        request.wfile.write(b"thanks")

    with running_receiver(thanks) as receiver:
        start_sender()
        for number in range(3):
            end_job(receiver.url, f"x{number}")
            receiver.next()
            wait_until_settled(connection)
        assert receiver.connections == 1
