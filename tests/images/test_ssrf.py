"""URLs that try to make a worker speak to its own network: none reaches a listening canary.

One host, 127.0.0.2, is allowed; it redirects wherever a URL asks it to. The canary listens on all
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
from tests.serving import serving
from worker.errors import ItemRejected
from worker.images.fetcher import Fetched, Fetcher

BLOCKED = ErrorCode.IMAGE_BLOCKED
UNREACHABLE = ErrorCode.IMAGE_UNREACHABLE
#: Far more than any of these needs: each must end, and is not tried again.
TIMEOUT_S = 20.0
OPEN = AddressPolicy(allow=["0.0.0.0/0", "::/0"])

#: Each leads to the canary where nobody checks.
LIVE = [
    "http://127.0.0.1:{port}/",
    "http://127.0.0.3:{port}/",
    "http://127.255.255.254:{port}/",
    "http://127.1:{port}/",
    "http://127。0。0。1:{port}/",
    "http://0177.1:{port}/",
    "http://0177.0.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0x7f.1:{port}/",
    "http://0x7F000001:{port}/",
    "http://0x7f.0x0.0x0.0x1:{port}/",
    "http://0x7f.0.01:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://0x0:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://inner.test:{port}/",
    "http://inner.test.:{port}/",
    "HTTP://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@93.184.216.34/",
    "http://127.0.0.1:{port}?@93.184.216.34/",
    "http://127.0.0.1:{port}/;@93.184.216.34/",
    "http://{own}:{port}/",
]
LIVE_IPV6 = [
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[0000::0001]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::FFFF:7F00:1]:{port}/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{port}/",
    "http://[::ffff:127.0.0.3]:{port}/",
    "http://inner6.test:{port}/",
]
#: Leads to other places of a network, or to none, and how that ends.
DEAD = [
    ("http://10.0.0.1:{port}/", BLOCKED),
    ("http://192.168.0.1:{port}/", BLOCKED),
    ("http://172.31.255.255:{port}/", BLOCKED),
    ("http://169.254.169.254/latest/meta-data/", BLOCKED),
    ("http://2852039166/latest/meta-data/", BLOCKED),
    ("http://0xa9fea9fe/latest/meta-data/", BLOCKED),
    ("http://0251.0376.0251.0376/latest/meta-data/", UNREACHABLE),
    ("http://100.100.100.200/latest/meta-data/", BLOCKED),
    ("http://metadata.test/computeMetadata/v1/", BLOCKED),
    ("http://[fd00:ec2::254]/latest/meta-data/", BLOCKED),
    ("http://224.0.0.1:{port}/", BLOCKED),
    ("http://255.255.255.255:{port}/", BLOCKED),
    ("http://100.64.0.1:{port}/", BLOCKED),
    ("http://[::127.0.0.1]:{port}/", BLOCKED),
    ("http://[::ffff:0:7f00:1]:{port}/", BLOCKED),
    ("http://[64:ff9b::7f00:1]:{port}/", BLOCKED),
    ("http://[64:ff9b::169.254.169.254]:{port}/", BLOCKED),
    ("http://[64:ff9b:1::7f00:1]:{port}/", BLOCKED),
    ("http://[2002:7f00:1::]:{port}/", BLOCKED),
    ("http://[2001:0:7f00:1::80ff:fffe]:{port}/", BLOCKED),
    ("http://[2606:2800:220:1:0:5efe:7f00:1]:{port}/", BLOCKED),
    ("http://[fe80::1]:{port}/", BLOCKED),
    ("http://[fe80::1%25lo]:{port}/", BLOCKED),
    ("http://[::1%25lo]:{port}/", BLOCKED),
    ("http://[::1%lo]:{port}/", BLOCKED),
    ("http://[fec0::1]:{port}/", BLOCKED),
    ("http://[ff02::1]:{port}/", BLOCKED),
    ("http://[fc00::1]:{port}/", BLOCKED),
    ("http://127%2e0%2e0%2e1:{port}/", BLOCKED),
    ("http://%31%32%37.0.0.1:{port}/", BLOCKED),
    ("http://localhost%00.example.com:{port}/", BLOCKED),
    ("http://127.0.0.1%23@93.184.216.34:{port}/", BLOCKED),
    ("http://93.184.216.34@127.0.0.1:{port}/", BLOCKED),
    ("http://user:secret@127.0.0.1:{port}/", BLOCKED),
    ("https://user:secret@127.0.0.1:{port}/", BLOCKED),
    ("http://:secret@127.0.0.1:{port}/", BLOCKED),
    ("http://93.184.216.34\\@127.0.0.1:{port}/", BLOCKED),
    ("http://127.0.0.1:{port}\\@93.184.216.34/", BLOCKED),
    ("http://93.184.216.34:80@127.0.0.1:{port}/", BLOCKED),
    ("http://93.184.216.34 @127.0.0.1:{port}/", BLOCKED),
    ("https://127.0.0.1:{port}/", BLOCKED),
    ("http:127.0.0.1:{port}/", BLOCKED),
    ("http:/127.0.0.1:{port}/", BLOCKED),
    ("http:\\\\127.0.0.1:{port}/", BLOCKED),
    (" http://127.0.0.1:{port}/", BLOCKED),
    ("//127.0.0.1:{port}/", BLOCKED),
    ("127.0.0.1:{port}/", BLOCKED),
    ("gopher://127.0.0.1:{port}/_GET / HTTP/1.0%0d%0a%0d%0a", BLOCKED),
    ("ftp://127.0.0.1:{port}/x", BLOCKED),
    ("ldap://127.0.0.1:{port}/", BLOCKED),
    ("dict://127.0.0.1:{port}/info", BLOCKED),
    ("sftp://127.0.0.1:{port}/", BLOCKED),
    ("ws://127.0.0.1:{port}/", BLOCKED),
    ("jar:http://127.0.0.1:{port}/!/x", BLOCKED),
    ("url:http://127.0.0.1:{port}/", BLOCKED),
    ("view-source:http://127.0.0.1:{port}/", BLOCKED),
    ("file://127.0.0.1:{port}/etc/passwd", BLOCKED),
    ("s3://127.0.0.1:{port}/key", BLOCKED),
    ("s3://http://127.0.0.1:{port}/key", BLOCKED),
    ("http://①②⑦.⓪.⓪.①:{port}/", UNREACHABLE),
    ("http://\uff11\uff12\uff17.0.0.1:{port}/", UNREACHABLE),
    ("http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/", UNREACHABLE),
    ("http://127.0.0.1\t:{port}/", UNREACHABLE),
    ("http://127.0.0.1\n:{port}/", UNREACHABLE),
    ("http://127.0.0.1\r\nHost: x:{port}/", UNREACHABLE),
    ("http://127.0.0.1\x00:{port}/", UNREACHABLE),
    ("http://127.0.0.1:{port}:80/", UNREACHABLE),
    ("http://127.0.0.2:99999/", BLOCKED),
    ("http://127.0.0.2:0/", BLOCKED),
    ("http://0177.0.0.1:{port}/", UNREACHABLE),
    ("http://0177.0.0.01:{port}/", UNREACHABLE),
    ("http://00000177.0.0.1:{port}/", UNREACHABLE),
    ("http://127.0.0.256:{port}/", UNREACHABLE),
    ("http://[::1:{port}/", UNREACHABLE),
    ("http://[127.0.0.1]:{port}/", UNREACHABLE),
    ("http://[v1.127]:{port}/", UNREACHABLE),
    ("http://4294967297:{port}/", UNREACHABLE),
    ("http://127..0.0.1:{port}/", UNREACHABLE),
    ("http:///127.0.0.1:{port}/", BLOCKED),
    ("http://:{port}/", BLOCKED),
    ("http://./", UNREACHABLE),
]
#: Where the allowed host redirects to, and how that ends.
REDIRECTS = [
    ("http://127.0.0.1:{port}/", BLOCKED),
    ("//127.0.0.1:{port}/", BLOCKED),
    ("http://localhost:{port}/", BLOCKED),
    ("http://inner.test:{port}/", BLOCKED),
    ("http://2130706433:{port}/", BLOCKED),
    ("http://0177.1:{port}/", BLOCKED),
    ("http://[::1]:{port}/", BLOCKED),
    ("http://[::ffff:7f00:1]:{port}/", BLOCKED),
    ("http://0:{port}/", BLOCKED),
    ("http://{own}:{port}/", BLOCKED),
    ("https://127.0.0.1:{port}/", BLOCKED),
    ("http://127.0.0.1:{host_port}/", BLOCKED),
    ("http://user:secret@127.0.0.1:{port}/", BLOCKED),
    ("http://user:secret@127.0.0.2:{host_port}/image", BLOCKED),
    ("file:///etc/passwd", BLOCKED),
    ("file:/etc/passwd", BLOCKED),
    ("ftp://127.0.0.1:{port}/", BLOCKED),
    ("gopher://127.0.0.1:{port}/_x", BLOCKED),
    ("data:image/png;base64,AAAA", UNREACHABLE),
    ("s3://bucket/key", BLOCKED),
    ("http://127.0.0.1:secret/", UNREACHABLE),
    ("http://169.254.169.254/latest/meta-data/", BLOCKED),
    ("http://[::1", UNREACHABLE),
]


class Redirector(BaseHTTPRequestHandler):
    """The allowed host: `/302?<where to>` redirects, `/503` is busy once, all else is an image."""

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
    """A resolver: names with answers that may change with each look-up; numbers as ever."""

    def __init__(self) -> None:
        self.looked_up: defaultdict[str, int] = defaultdict(int)
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
            turns = self._answers[host]
            found = turns[min(self.looked_up[host], len(turns) - 1)]
            self.looked_up[host] += 1
            return [(None, None, 0, "", (address, port)) for address in found]
        # Never asks a name server, but takes numbers in all their forms.
        return socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST, **options)


@pytest.fixture(scope="module")
def host_port() -> Iterator[int]:
    """The port of the allowed host."""
    with serving(ThreadingHTTPServer(("127.0.0.2", 0), Redirector)) as server:
        yield server.server_port


@pytest.fixture(scope="module")
def canary(host_port: int) -> Iterator[Canary]:
    with running_canary() as canary:
        # A name that changes its address keeps its port.
        canary.listen("127.0.0.1", host_port)
        yield canary


@pytest.fixture(scope="module")
def written(canary: Canary, host_port: int) -> Callable[[str], str]:
    """Fills in the ports and an address of this machine."""
    own = own_address()
    return lambda url: (
        url.replace("{port}", str(canary.port))
        .replace("{host_port}", str(host_port))
        .replace("{own}", own)
    )


def own_address() -> str:
    """Of the interface that packets to others would leave by; none is sent."""
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
        guard=guard or AddressPolicy(allow=["127.0.0.2"]),
        resolve=Names(),
    )
    try:
        yield fetcher
    finally:
        fetcher.close()


@pytest.fixture
def fetch(connection: redis.Redis) -> Iterator[Callable[[str], Fetched]]:
    with fetching(connection) as fetcher:
        yield lambda url: next(fetcher.fetch([url]))


def assert_refused(fetched: Fetched, code: ErrorCode, canary: Canary) -> None:
    assert canary.visits() == 0
    assert isinstance(fetched, ItemRejected), fetched
    assert fetched.code is code, fetched
    assert "secret" not in str(fetched)
    assert "tried" not in str(fetched)


CORPUS = [*((url, BLOCKED) for url in LIVE + LIVE_IPV6), *DEAD]


@pytest.mark.parametrize(("url", "code"), CORPUS)
def test_no_url_reaches_the_canary(
    fetch: Callable[[str], Fetched],
    canary: Canary,
    written: Callable[[str], str],
    url: str,
    code: ErrorCode,
) -> None:
    began = time.monotonic()
    assert_refused(fetch(written(url)), code, canary)
    assert time.monotonic() - began < TIMEOUT_S


@pytest.mark.parametrize("url", LIVE + LIVE_IPV6)
def test_without_the_guard_the_canary_is_reached(
    connection: redis.Redis, canary: Canary, written: Callable[[str], str], url: str
) -> None:
    if url in LIVE_IPV6 and not canary.ipv6:
        pytest.skip("no IPv6 on this machine")
    with fetching(connection, OPEN) as fetcher:
        assert list(fetcher.fetch([written(url)])) == [BODY]
    assert canary.visits() == 1


@pytest.mark.parametrize(("target", "code"), REDIRECTS)
def test_no_redirect_reaches_the_canary(
    fetch: Callable[[str], Fetched],
    canary: Canary,
    written: Callable[[str], str],
    target: str,
    code: ErrorCode,
) -> None:
    fetched = fetch(redirect(written, target))
    assert_refused(fetched, code, canary)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_of_all_kinds_are_checked_and_followed(
    fetch: Callable[[str], Fetched], canary: Canary, written: Callable[[str], str], status: int
) -> None:
    assert fetch(redirect(written, "http://allowed.test:{host_port}/image", status)) == b"an image"
    assert_refused(fetch(redirect(written, "http://127.0.0.1:{port}/", status)), BLOCKED, canary)


def test_the_end_of_a_chain_is_checked_as_its_beginning(
    fetch: Callable[[str], Fetched], canary: Canary, written: Callable[[str], str]
) -> None:
    target = "http://127.0.0.1:{port}/"
    for _ in range(4):
        target = redirect(written, target)
    assert_refused(fetch(target), BLOCKED, canary)
    target = "/image"
    for _ in range(4):
        target = redirect(written, target)
    assert fetch(target) == b"an image"


def test_without_the_guard_a_redirect_reaches_the_canary(
    connection: redis.Redis, canary: Canary, written: Callable[[str], str]
) -> None:
    with fetching(connection, OPEN) as fetcher:
        url = redirect(written, "http://inner.test:{port}/")
        assert list(fetcher.fetch([url])) == [BODY]
    assert canary.visits() == 1


@pytest.mark.parametrize(
    "name", ["mixed.test", "mixed-first.test", "half-public.test", "half-public6.test"]
)
def test_a_name_with_an_inner_address_among_others_is_blocked(
    fetch: Callable[[str], Fetched], canary: Canary, host_port: int, name: str
) -> None:
    assert_refused(fetch(f"http://{name}:{host_port}/image"), BLOCKED, canary)


def test_a_name_is_looked_up_once_for_each_connection(
    connection: redis.Redis, canary: Canary, host_port: int
) -> None:
    # Given a name that leads to an allowed address at first, and then to the canary
    names = Names()
    fetcher = Fetcher(
        connection,
        image_root=None,
        max_bytes=4096,
        timeout_s=TIMEOUT_S,
        guard=AddressPolicy(allow=["127.0.0.2"]),
        resolve=names,
    )
    # When it is fetched, Then the address that was checked is the one that is asked
    url = f"http://rebinding.test:{host_port}/image"
    assert list(fetcher.fetch([url])) == [b"an image"]
    assert names.looked_up["rebinding.test"] == 1
    # And the next connection finds the other, which is checked as well
    (fetched,) = fetcher.fetch([url])
    assert_refused(fetched, BLOCKED, canary)
    assert names.looked_up["rebinding.test"] == 2
    fetcher.close()


@pytest.mark.parametrize("path", ["302?http://rebinding.test:{host_port}/image", "302?/x", "503"])
def test_a_name_that_changes_within_a_fetch_is_blocked(
    fetch: Callable[[str], Fetched], canary: Canary, written: Callable[[str], str], path: str
) -> None:
    fetched = fetch(written("http://rebinding.test:{host_port}/" + path))
    assert_refused(fetched, BLOCKED, canary)


def test_without_the_guard_a_name_that_changes_reaches_the_canary(
    connection: redis.Redis, canary: Canary, host_port: int
) -> None:
    with fetching(connection, OPEN) as fetcher:
        assert list(fetcher.fetch([f"http://rebinding.test:{host_port}/503"])) == [BODY]
    assert canary.visits() == 1


def test_the_corpus_is_as_large_as_it_is_meant_to_be() -> None:
    assert len({url for url, _ in CORPUS}) >= 80
    assert len(CORPUS) + len(REDIRECTS) >= 120


def redirect(written: Callable[[str], str], target: str, status: int = 302) -> str:
    """A URL of the allowed host that redirects there."""
    return written(f"http://127.0.0.2:{{host_port}}/{status}?") + quote(written(target), safe="")
