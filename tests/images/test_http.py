"""Image hosts that lie, that never end, and what of them is shown to others."""

from __future__ import annotations

import gzip
import itertools
import logging
import socketserver
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import ClassVar

import pytest
import redis

from producer.contract import ErrorCode
from producer.net.address_policy import AddressPolicy
from tests.serving import serving
from worker.errors import ItemRejected
from worker.images.fetcher import FETCH_THREADS, PER_HOST, Fetched, Fetcher

UNREACHABLE = ErrorCode.IMAGE_UNREACHABLE
TOO_LARGE = ErrorCode.IMAGE_TOO_LARGE
MAX_BYTES = 1 << 16
HEAD = b"HTTP/1.1 200 OK\r\n"
PIECE = bytes(MAX_BYTES)
CHUNK = b"%x\r\n%s\r\n" % (len(PIECE), PIECE)
#: A gigabyte, in a megabyte.
BOMB = gzip.compress(gzip.compress(bytes(1 << 26)) * 16)


def said(*headers: bytes, body: Iterable[bytes] = ()) -> Iterable[bytes]:
    """An answer, to its end or without one."""
    return itertools.chain([HEAD + b"".join(one + b"\r\n" for one in headers) + b"\r\n"], body)


ANSWERS: dict[str, Callable[[], Iterable[bytes]]] = {
    "/image": lambda: said(b"Content-Length: 5", body=[b"image"]),
    "/called-text": lambda: said(b"Content-Type: text/html", b"Content-Length: 5", body=[b"image"]),
    "/identity": lambda: said(b"Content-Encoding: identity", b"Content-Length: 5", body=[b"image"]),
    "/chunked": lambda: said(
        b"Transfer-Encoding: chunked", body=[b"2\r\nim\r\n", b"3;x=y\r\nage\r\n", b"0\r\n\r\n"]
    ),
    "/until-closed": lambda: said(body=[b"image"]),
    "/endless": lambda: said(body=itertools.repeat(PIECE)),
    "/endless-chunks": lambda: said(b"Transfer-Encoding: chunked", body=itertools.repeat(CHUNK)),
    "/huge-chunk": lambda: said(
        b"Transfer-Encoding: chunked",
        body=itertools.chain([b"FFFFFFFF\r\n"], itertools.repeat(PIECE)),
    ),
    "/announced-huge": lambda: said(b"Content-Length: 99999999999", body=itertools.repeat(PIECE)),
    "/announced-absurd": lambda: said(b"Content-Length: " + b"9" * 19),
    "/gzip": lambda: said(
        b"Content-Encoding: gzip", b"Content-Length: %d" % len(BOMB), body=[BOMB]
    ),
    "/deflate": lambda: said(b"Content-Encoding: deflate, gzip", body=[BOMB]),
    "/zstd": lambda: said(b"Content-Encoding: zstd", body=[BOMB]),
    "/endless-headers": lambda: itertools.chain([HEAD], itertools.repeat(b"X: " + PIECE[:999])),
    "/endless-continue": lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "/secret-in-redirect": lambda: [
        b"HTTP/1.1 302 x\r\nLocation: http://user:secret@127.0.0.1/\r\nContent-Length: 0\r\n\r\n"
    ],
    "/not-http": lambda: [b"220 mail.example.com ESMTP\r\n"],
}


class Host(socketserver.StreamRequestHandler):
    """Answers each path in its own way, then hangs up."""

    asked: ClassVar[Counter[str]] = Counter()
    go_on = threading.Event()

    def handle(self) -> None:
        self.asked["connections"] += 1
        # An image leaves the connection open for the next.
        while self._answer() == "/image":
            pass

    def _answer(self) -> str | None:
        request = self.rfile.readline().split()
        if not request:
            return None
        path = request[1].decode().partition("?")[0]
        while self.rfile.readline().strip():
            pass
        self.asked[path] += 1
        if path == "/silent":
            self.go_on.wait(60)
            return None
        with suppress(OSError):
            for piece in ANSWERS[path]():
                self.wfile.write(piece)
        return path


class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128
    daemon_threads = True


@pytest.fixture
def host() -> Iterator[str]:
    Host.asked.clear()
    Host.go_on.clear()
    with serving(Server(("127.0.0.1", 0), Host)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}"
        Host.go_on.set()


@contextmanager
def fetching(connection: redis.Redis, timeout_s: float = 10.0) -> Iterator[Fetcher]:
    guard = AddressPolicy(allow=["127.0.0.0/8"])
    fetcher = Fetcher(
        connection, image_root=None, max_bytes=MAX_BYTES, timeout_s=timeout_s, guard=guard
    )
    try:
        yield fetcher
    finally:
        fetcher.close()


@pytest.fixture
def fetch(connection: redis.Redis) -> Iterator[Callable[[str], Fetched]]:
    with fetching(connection) as fetcher:
        yield lambda url: next(fetcher.fetch([url]))


@pytest.mark.parametrize(
    "path", ["/image", "/called-text", "/identity", "/chunked", "/until-closed"]
)
def test_what_is_an_answer_is_read_whatever_it_is_called(
    fetch: Callable[[str], Fetched], host: str, path: str
) -> None:
    assert fetch(host + path) == b"image"


def test_connections_are_used_again(connection: redis.Redis, host: str) -> None:
    with fetching(connection) as fetcher:
        urls = [f"{host}/image?{number}" for number in range(100)]
        assert list(fetcher.fetch(urls)) == [b"image"] * 100
    assert Host.asked["/image"] == 100
    assert Host.asked["connections"] <= PER_HOST


@pytest.mark.parametrize(
    ("path", "code", "about"),
    [
        ("/endless", TOO_LARGE, "more than 65,536 bytes"),
        ("/endless-chunks", TOO_LARGE, "more than 65,536 bytes"),
        ("/huge-chunk", TOO_LARGE, "more than 65,536 bytes"),
        ("/announced-huge", TOO_LARGE, "more than 65,536 bytes"),
        ("/announced-absurd", TOO_LARGE, "more than 65,536 bytes"),
        ("/gzip", UNREACHABLE, "compresses"),
        ("/deflate", UNREACHABLE, "compresses"),
        ("/zstd", UNREACHABLE, "compresses"),
    ],
)
def test_what_is_too_much_is_refused_at_once_and_in_little_memory(
    fetch: Callable[[str], Fetched], host: str, path: str, code: ErrorCode, about: str
) -> None:
    assert fetch(f"{host}/image") == b"image"
    tracemalloc.start()
    fetched = fetch(host + path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(fetched, ItemRejected)
    assert fetched.code is code
    assert about in str(fetched)
    assert Host.asked[path] == 1
    assert most < 8 << 20


@pytest.mark.parametrize("path", ["/endless-headers", "/endless-continue", "/not-http"])
def test_what_is_no_answer_ends_in_time(connection: redis.Redis, host: str, path: str) -> None:
    with fetching(connection, timeout_s=1.0) as fetcher:
        (fetched,) = fetcher.fetch([host + path])
    assert isinstance(fetched, ItemRejected)
    assert fetched.code is UNREACHABLE


def test_a_silent_host_leaves_threads_to_others(connection: redis.Redis, host: str) -> None:
    # Given a host that is asked for more images than there are threads, and says nothing
    silent = [f"{host}/silent?{number}" for number in range(2 * FETCH_THREADS)]
    with fetching(connection, timeout_s=60.0) as fetcher:

        def ask() -> None:
            with suppress(CancelledError):
                list(fetcher.fetch(silent))

        waiting = threading.Thread(target=ask)
        waiting.start()
        ends = time.monotonic() + 30
        while Host.asked["/silent"] < PER_HOST:
            assert time.monotonic() < ends
            time.sleep(0.01)
        # When another is asked (by another name of the same), Then it answers
        other = host.replace("127.0.0.1", "127.1")
        assert list(fetcher.fetch([f"{other}/image?{number}" for number in range(40)])) == (
            [b"image"] * 40
        )
        assert Host.asked["/silent"] == PER_HOST
        fetcher.close()
        Host.go_on.set()
    waiting.join()


@pytest.mark.parametrize(
    "reference",
    [
        "{host}/endless?token=secret",
        "{host}/silent?token=secret",
        "{host}/gzip?token=secret#secret",
        "{host}/secret-in-redirect",
        "http://user:secret@127.0.0.1/x",
        "http://user:secret@[::1/x",
        "http://user:secret",
        "https://user:sec?secret@127.0.0.1/x",
        "http://127.0.0.1:1/x?secret",
        "http://127.0.0.1:secret/x",
        "http://nobody.invalid./x?secret",
        "ftp://user:secret@host/x",
        "user:secret@host/x",
        "s3://user:secret@bucket/x?secret",
        "file:x?secret",
        "data:image/png;base64,secret",
    ],
)
def test_no_message_and_no_log_shows_a_secret(
    connection: redis.Redis, host: str, reference: str, caplog: pytest.LogCaptureFixture
) -> None:
    # A worker logs at this level.
    caplog.set_level(logging.INFO)
    with fetching(connection, timeout_s=0.5) as fetcher:
        (fetched,) = fetcher.fetch([reference.replace("{host}", host)])
    assert isinstance(fetched, ItemRejected)
    # This one is a path, which is shown: what it redirects to is not.
    shown = str(fetched).removeprefix(f"{host}/secret-in-redirect")
    assert "secret" not in shown
    assert "secret" not in caplog.text


def test_a_good_image_leaves_no_line_in_the_log(
    fetch: Callable[[str], Fetched], host: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert fetch(f"{host}/image?secret") == b"image"
    assert "secret" not in caplog.text
