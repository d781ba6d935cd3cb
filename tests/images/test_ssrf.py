"""SSRF: no URL, redirect or DNS answer reaches a canary on the worker's own network.

One host, 127.0.0.2, is allowed; it redirects to the target in its URL. The canary listens on all
other addresses of this machine.
"""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

import pytest
import redis

from producer.contract import ErrorCode
from producer.net.address_policy import AddressPolicy
from tests.images.canary import BODY, Canary, running_canary
from tests.images.ssrf_urls import BLOCKED, CORPUS, LIVE, LIVE_IPV6, REDIRECTS
from tests.serving import serving
from worker.errors import ItemRejected
from worker.images.fetcher import Fetcher, FetchResult

#: Far more than any fetch here takes: each must end without a retry.
TIMEOUT_S = 20.0
OPEN = AddressPolicy(allow=["0.0.0.0/0", "::/0"])


class Redirector(BaseHTTPRequestHandler):
    """The allowed host: `/302?<target>` redirects, `/503` is busy, every other path is an image."""

    def do_GET(self) -> None:
        status, _, target = self.path[1:].partition("?")
        self.close_connection = True
        if status == "503":
            self._send(503, "Retry-After: 0")
        elif status.isdecimal():
            self._send(int(status), f"Location: {unquote(target)}")
        else:
            self._send(200, "Content-Type: text/html", b"an image")

    def _send(self, status: int, header: str, body: bytes = b"") -> None:
        lines = [f"HTTP/1.1 {status} x", header, f"Content-Length: {len(body)}"]
        lines += ["Connection: close", "", ""]
        with suppress(OSError):
            self.wfile.write("\r\n".join(lines).encode() + body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Names:
    """A resolver whose answers may change with each look-up; it resolves numbers as usual."""

    def __init__(self) -> None:
        self.lookups: defaultdict[str, int] = defaultdict(int)
        self._answers = {
            "localhost": [["127.0.0.1", "::1"]],
            "localhost.": [["127.0.0.1", "::1"]],
            "inner.test": [["127.0.0.1"]],
            "inner.test.": [["127.0.0.1"]],
            "inner6.test": [["::1"]],
            "metadata.test": [["169.254.169.254"]],
            "mixed.test": [["127.0.0.2", "127.0.0.1"]],
            "mixed-first.test": [["127.0.0.1", "127.0.0.2"]],
            "half-public.test": [["93.184.216.34", "10.0.0.1"]],
            "half-public6.test": [["93.184.216.34", "::1"]],
            # One answer for the check, another for the connection.
            "rebinding.test": [["127.0.0.2"], ["127.0.0.1"]],
            "allowed.test": [["127.0.0.2"]],
        }

    def __call__(self, host: str, port: int, **options: Any) -> list[Any]:
        if host in self._answers:
            answers = self._answers[host]
            addresses = answers[min(self.lookups[host], len(answers) - 1)]
            self.lookups[host] += 1
            return [(None, None, 0, "", (address, port)) for address in addresses]
        # Accepts numbers in all forms, but never queries a name server.
        return socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST, **options)


@pytest.fixture(scope="module")
def host_port() -> Iterator[int]:
    """The port of the allowed host."""
    with serving(ThreadingHTTPServer(("127.0.0.2", 0), Redirector)) as server:
        yield server.server_port


@pytest.fixture(scope="module")
def canary(host_port: int) -> Iterator[Canary]:
    with running_canary() as canary:
        # A rebinding name keeps its port.
        canary.listen("127.0.0.1", host_port)
        yield canary


@pytest.fixture(scope="module")
def fill(canary: Canary, host_port: int) -> Callable[[str], str]:
    """`fill(url)`: the URL with the ports and an address of this machine."""
    own = own_address()
    return lambda url: (
        url.replace("{port}", str(canary.port))
        .replace("{host_port}", str(host_port))
        .replace("{own}", own)
    )


def own_address() -> str:
    """Return the address of the outgoing interface; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


@contextmanager
def fetching(connection: redis.Redis, guard: AddressPolicy | None = None) -> Iterator[Fetcher]:
    fetcher = Fetcher(
        connection,
        image_root=None,
        max_bytes=4096,
        timeout_s=TIMEOUT_S,
        policy=guard or AddressPolicy(allow=["127.0.0.2"]),
        resolve=Names(),
    )
    try:
        yield fetcher
    finally:
        fetcher.close()


@pytest.fixture
def fetch(connection: redis.Redis) -> Iterator[Callable[[str], FetchResult]]:
    with fetching(connection) as fetcher:
        yield lambda url: next(fetcher.fetch([url]))


def assert_rejected(result: FetchResult, code: ErrorCode, canary: Canary) -> None:
    assert canary.visits() == 0
    assert isinstance(result, ItemRejected), result
    assert result.code is code, result
    assert "secret" not in str(result)
    assert "tried" not in str(result)


@pytest.mark.parametrize(("url", "code"), CORPUS)
def test_no_url_reaches_the_canary(
    fetch: Callable[[str], FetchResult],
    canary: Canary,
    fill: Callable[[str], str],
    url: str,
    code: ErrorCode,
) -> None:
    started = time.monotonic()
    assert_rejected(fetch(fill(url)), code, canary)
    assert time.monotonic() - started < TIMEOUT_S


@pytest.mark.parametrize("url", LIVE + LIVE_IPV6)
def test_without_the_guard_the_canary_is_reached(
    connection: redis.Redis, canary: Canary, fill: Callable[[str], str], url: str
) -> None:
    if url in LIVE_IPV6 and not canary.ipv6:
        pytest.skip("no IPv6 on this machine")
    with fetching(connection, OPEN) as fetcher:
        assert list(fetcher.fetch([fill(url)])) == [BODY]
    assert canary.visits() == 1


@pytest.mark.parametrize(("target", "code"), REDIRECTS)
def test_no_redirect_reaches_the_canary(
    fetch: Callable[[str], FetchResult],
    canary: Canary,
    fill: Callable[[str], str],
    target: str,
    code: ErrorCode,
) -> None:
    result = fetch(redirect(fill, target))
    assert_rejected(result, code, canary)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_of_all_kinds_are_checked_and_followed(
    fetch: Callable[[str], FetchResult], canary: Canary, fill: Callable[[str], str], status: int
) -> None:
    assert fetch(redirect(fill, "http://allowed.test:{host_port}/image", status)) == b"an image"
    assert_rejected(fetch(redirect(fill, "http://127.0.0.1:{port}/", status)), BLOCKED, canary)


def test_the_end_of_a_chain_is_checked_as_its_beginning(
    fetch: Callable[[str], FetchResult], canary: Canary, fill: Callable[[str], str]
) -> None:
    target = "http://127.0.0.1:{port}/"
    for _ in range(4):
        target = redirect(fill, target)
    assert_rejected(fetch(target), BLOCKED, canary)
    target = "/image"
    for _ in range(4):
        target = redirect(fill, target)
    assert fetch(target) == b"an image"


def test_without_the_guard_a_redirect_reaches_the_canary(
    connection: redis.Redis, canary: Canary, fill: Callable[[str], str]
) -> None:
    with fetching(connection, OPEN) as fetcher:
        url = redirect(fill, "http://inner.test:{port}/")
        assert list(fetcher.fetch([url])) == [BODY]
    assert canary.visits() == 1


@pytest.mark.parametrize(
    "name", ["mixed.test", "mixed-first.test", "half-public.test", "half-public6.test"]
)
def test_a_name_with_an_internal_address_among_others_is_blocked(
    fetch: Callable[[str], FetchResult], canary: Canary, host_port: int, name: str
) -> None:
    assert_rejected(fetch(f"http://{name}:{host_port}/image"), BLOCKED, canary)


def test_a_name_is_looked_up_once_for_each_connection(
    connection: redis.Redis, canary: Canary, host_port: int
) -> None:
    # Given a name that resolves to an allowed address first, and then to the canary
    names = Names()
    fetcher = Fetcher(
        connection,
        image_root=None,
        max_bytes=4096,
        timeout_s=TIMEOUT_S,
        policy=AddressPolicy(allow=["127.0.0.2"]),
        resolve=names,
    )
    # When it is result, Then the request goes to the checked address
    url = f"http://rebinding.test:{host_port}/image"
    assert list(fetcher.fetch([url])) == [b"an image"]
    assert names.lookups["rebinding.test"] == 1
    # And the next connection resolves to the canary, which is checked as well
    (result,) = fetcher.fetch([url])
    assert_rejected(result, BLOCKED, canary)
    assert names.lookups["rebinding.test"] == 2
    fetcher.close()


@pytest.mark.parametrize("path", ["302?http://rebinding.test:{host_port}/image", "302?/x", "503"])
def test_a_name_that_changes_within_a_fetch_is_blocked(
    fetch: Callable[[str], FetchResult], canary: Canary, fill: Callable[[str], str], path: str
) -> None:
    result = fetch(fill("http://rebinding.test:{host_port}/" + path))
    assert_rejected(result, BLOCKED, canary)


def test_without_the_guard_a_name_that_changes_reaches_the_canary(
    connection: redis.Redis, canary: Canary, host_port: int
) -> None:
    with fetching(connection, OPEN) as fetcher:
        assert list(fetcher.fetch([f"http://rebinding.test:{host_port}/503"])) == [BODY]
    assert canary.visits() == 1


def test_the_corpus_has_its_full_size() -> None:
    assert len({url for url, _ in CORPUS}) >= 80
    assert len(CORPUS) + len(REDIRECTS) >= 120


def redirect(fill: Callable[[str], str], target: str, status: int = 302) -> str:
    """Return a URL of the allowed host that redirects to the target."""
    return fill(f"http://127.0.0.2:{{host_port}}/{status}?") + quote(fill(target), safe="")
