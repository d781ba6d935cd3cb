"""Retries, redirects and time limits of image hosts."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import redis

from producer.contract import ErrorCode
from producer.net.http_client import retry_after_s
from tests.images.image_host import (
    Host,
    code_of,
    running_fetcher,
)
from worker.errors import ItemRejected
from worker.images.fetcher import FETCH_THREADS, FetchResult
from worker.images.http import MAX_ATTEMPTS


def test_a_redirect_is_followed(fetch: Callable[[str], FetchResult], host: str) -> None:
    assert fetch(f"{host}/moved") == b"bytes of /image"


@pytest.mark.parametrize("path", ["/flaky", "/cut", "/slow-once"])
def test_a_transient_error_of_a_host_is_retried(
    connection: redis.Redis, host: str, path: str
) -> None:
    with running_fetcher(connection, timeout_s=6.0) as source:
        assert list(source.fetch([host + path])) == [b"bytes of " + path.encode()]
    assert len(Host.requests[path]) == (3 if path == "/flaky" else 2)


@pytest.mark.parametrize("path", ["/busy", "/busy-until"])
def test_a_retry_waits_for_the_delay_that_the_host_requests(
    connection: redis.Redis, host: str, path: str
) -> None:
    with running_fetcher(connection, timeout_s=30.0) as source:
        assert list(source.fetch([host + path])) == [b"bytes of " + path.encode()]
    # A date has whole seconds.
    first, second = Host.requests[path]
    assert second - first > (0.9 if path == "/busy" else 1.9)


def test_a_requested_delay_beyond_the_time_limit_ends_the_retries(
    fetch: Callable[[str], FetchResult], host: str
) -> None:
    result = fetch(f"{host}/closed")
    assert code_of(result) is ErrorCode.IMAGE_UNREACHABLE
    assert str(result) == (
        f"{host}/closed: tried once, last error: the host answers 503 and requests a delay of 7 s"
    )
    assert len(Host.requests["/closed"]) == 1


def test_a_host_that_stays_down_is_given_up_before_the_time_limit(
    connection: redis.Redis, host: str
) -> None:
    with running_fetcher(connection, timeout_s=120.0) as source:
        (result,) = source.fetch([f"{host}/down"])
    assert code_of(result) is ErrorCode.IMAGE_UNREACHABLE
    assert len(Host.requests["/down"]) == MAX_ATTEMPTS
    message = f"tried {MAX_ATTEMPTS} times, last error: the host answers 500"
    assert str(result) == f"{host}/down: {message}"


@pytest.mark.parametrize("path", ["/missing", "/huge"])
def test_a_permanent_error_is_not_retried(
    fetch: Callable[[str], FetchResult], host: str, path: str
) -> None:
    assert isinstance(fetch(host + path), ItemRejected)
    assert len(Host.requests[path]) == 1


@pytest.mark.parametrize("path", ["/closed", "/drip", "/drip-headers"])
def test_the_deadline_ends_a_fetch(connection: redis.Redis, host: str, path: str) -> None:
    started = time.monotonic()
    with running_fetcher(connection, timeout_s=60.0) as source:
        cut, whole = source.fetch([host + path, f"{host}/image"], deadline=started + 2)
    assert code_of(cut) is ErrorCode.DEADLINE_EXCEEDED
    assert str(cut).startswith(f"{host}{path}: the deadline passed; tried ")
    assert ("the host answers 503" if path == "/closed" else "timed out") in str(cut)
    assert time.monotonic() - started < 15
    assert whole == b"bytes of /image"


def test_the_body_of_a_redirect_is_not_read_to_its_end(
    fetch: Callable[[str], FetchResult], host: str
) -> None:
    assert fetch(f"{host}/moved-for-ever") == b"bytes of /image"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("-5", 0),
        ("soon", 0),
        ("", 0),
        ("\u0665", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 99 Oct 99999999999999 07:28:00 GMT", 0),
    ],
)
def test_an_unusable_retry_after_header_requests_no_delay(value: str, seconds: float) -> None:
    assert retry_after_s(value) == seconds


def test_a_dripping_host_is_cut_off_at_the_time_limit(connection: redis.Redis, host: str) -> None:
    with running_fetcher(connection, timeout_s=0.3) as source:
        (result,) = source.fetch([f"{host}/drip"])
    assert code_of(result) is ErrorCode.IMAGE_UNREACHABLE
    assert "not complete after 0.3 s" in str(result)


def test_hosts_that_drip_their_headers_occupy_no_thread_beyond_the_time_limit(
    connection: redis.Redis, host: str
) -> None:
    urls = [f"{host}/drip-headers?{number}" for number in range(FETCH_THREADS)]
    started = time.monotonic()
    with running_fetcher(connection, timeout_s=1.0, per_host=FETCH_THREADS) as source:
        assert {code_of(result) for result in source.fetch(urls)} == {ErrorCode.IMAGE_UNREACHABLE}
        # Only a free thread can fetch this one.
        assert list(source.fetch([f"{host}/image"])) == [b"bytes of /image"]
    # The hosts drip for 20 s at least.
    assert time.monotonic() - started < 15


def test_a_port_without_a_listener_is_unreachable(connection: redis.Redis) -> None:
    with running_fetcher(connection, timeout_s=0.5) as source:
        (result,) = source.fetch(["http://127.0.0.1:1/x.png"])
    assert code_of(result) is ErrorCode.IMAGE_UNREACHABLE
    assert "tried" in str(result)


def test_a_name_that_cannot_exist_is_not_retried(fetch: Callable[[str], FetchResult]) -> None:
    # Too long for any name server.
    name = ".".join(["long" * 15] * 5)
    result = fetch(f"http://{name}/x.png")
    assert code_of(result) is ErrorCode.IMAGE_UNREACHABLE
    assert f": {name}: " in str(result)
