"""Image hosts that lie or never end, and the secrets that no message or log shows."""

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
from worker.images.fetcher import FETCH_THREADS, PER_HOST, Fetcher, FetchResult

UNREACHABLE = ErrorCode.IMAGE_UNREACHABLE
TOO_LARGE = ErrorCode.IMAGE_TOO_LARGE
MAX_BYTES = 1 << 16
HEAD = b"HTTP/1.1 200 OK\r\n"
PIECE = bytes(MAX_BYTES)
CHUNK = b"%x\r\n%s\r\n" % (len(PIECE), PIECE)
#: A gigabyte, compressed to a megabyte.
BOMB = gzip.compress(gzip.compress(bytes(1 << 26)) * 16)


def response(*headers: bytes, body: Iterable[bytes] = ()) -> Iterable[bytes]:
    """Return the pieces of a response, finite or endless."""
    return itertools.chain(
        [HEAD + b"".join(header + b"\r\n" for header in headers) + b"\r\n"], body
    )


ANSWERS: dict[str, Callable[[], Iterable[bytes]]] = {
    "/image": lambda: response(b"Content-Length: 5", body=[b"image"]),
    "/called-text": lambda: response(
        b"Content-Type: text/html", b"Content-Length: 5", body=[b"image"]
    ),
    "/identity": lambda: response(
        b"Content-Encoding: identity", b"Content-Length: 5", body=[b"image"]
    ),
    "/chunked": lambda: response(
        b"Transfer-Encoding: chunked", body=[b"2\r\nim\r\n", b"3;x=y\r\nage\r\n", b"0\r\n\r\n"]
    ),
    "/until-closed": lambda: response(body=[b"image"]),
    "/endless": lambda: response(body=itertools.repeat(PIECE)),
    "/endless-chunks": lambda: response(
        b"Transfer-Encoding: chunked", body=itertools.repeat(CHUNK)
    ),
    "/huge-chunk": lambda: response(
        b"Transfer-Encoding: chunked",
        body=itertools.chain([b"FFFFFFFF\r\n"], itertools.repeat(PIECE)),
    ),
    "/announced-huge": lambda: response(
        b"Content-Length: 99999999999", body=itertools.repeat(PIECE)
    ),
    "/announced-absurd": lambda: response(b"Content-Length: " + b"9" * 19),
    "/gzip": lambda: response(
        b"Content-Encoding: gzip", b"Content-Length: %d" % len(BOMB), body=[BOMB]
    ),
    "/deflate": lambda: response(b"Content-Encoding: deflate, gzip", body=[BOMB]),
    "/zstd": lambda: response(b"Content-Encoding: zstd", body=[BOMB]),
    "/endless-headers": lambda: itertools.chain([HEAD], itertools.repeat(b"X: " + PIECE[:999])),
    "/endless-continue": lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "/secret-in-redirect": lambda: [
        b"HTTP/1.1 302 x\r\nLocation: http://user:secret@127.0.0.1/\r\nContent-Length: 0\r\n\r\n"
    ],
    "/not-http": lambda: [b"220 mail.example.com ESMTP\r\n"],
}


class Host(socketserver.StreamRequestHandler):
    """A host that answers each path in its own way, then closes the connection."""

    requests: ClassVar[Counter[str]] = Counter()
    resume = threading.Event()

    def handle(self) -> None:
        self.requests["connections"] += 1
        # An image leaves the connection open for the next request.
        while self._answer() == "/image":
            pass

    def _answer(self) -> str | None:
        request = self.rfile.readline().split()
        if not request:
            return None
        path = request[1].decode().partition("?")[0]
        while self.rfile.readline().strip():
            pass
        self.requests[path] += 1
        if path == "/silent":
            self.resume.wait(60)
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
    Host.requests.clear()
    Host.resume.clear()
    with serving(Server(("127.0.0.1", 0), Host)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}"
        Host.resume.set()


@contextmanager
def fetching(connection: redis.Redis, timeout_s: float = 10.0) -> Iterator[Fetcher]:
    guard = AddressPolicy(allow=["127.0.0.0/8"])
    fetcher = Fetcher(
        connection, image_root=None, max_bytes=MAX_BYTES, timeout_s=timeout_s, policy=guard
    )
    try:
        yield fetcher
    finally:
        fetcher.close()


@pytest.fixture
def fetch(connection: redis.Redis) -> Iterator[Callable[[str], FetchResult]]:
    with fetching(connection) as fetcher:
        yield lambda url: next(fetcher.fetch([url]))


@pytest.mark.parametrize(
    "path", ["/image", "/called-text", "/identity", "/chunked", "/until-closed"]
)
def test_every_valid_response_is_read_whatever_its_content_type(
    fetch: Callable[[str], FetchResult], host: str, path: str
) -> None:
    assert fetch(host + path) == b"image"


def test_connections_are_reused(connection: redis.Redis, host: str) -> None:
    with fetching(connection) as fetcher:
        urls = [f"{host}/image?{number}" for number in range(100)]
        assert list(fetcher.fetch(urls)) == [b"image"] * 100
    assert Host.requests["/image"] == 100
    assert Host.requests["connections"] <= PER_HOST


@pytest.mark.parametrize(
    ("path", "code", "message"),
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
def test_a_body_that_is_too_large_is_rejected_at_once_and_in_little_memory(
    fetch: Callable[[str], FetchResult], host: str, path: str, code: ErrorCode, message: str
) -> None:
    assert fetch(f"{host}/image") == b"image"
    tracemalloc.start()
    result = fetch(host + path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(result, ItemRejected)
    assert result.code is code
    assert message in str(result)
    assert Host.requests[path] == 1
    assert peak < 8 << 20


@pytest.mark.parametrize("path", ["/endless-headers", "/endless-continue", "/not-http"])
def test_an_invalid_response_ends_at_the_time_limit(
    connection: redis.Redis, host: str, path: str
) -> None:
    with fetching(connection, timeout_s=1.0) as fetcher:
        (result,) = fetcher.fetch([host + path])
    assert isinstance(result, ItemRejected)
    assert result.code is UNREACHABLE


def test_a_silent_host_leaves_threads_to_other_hosts(connection: redis.Redis, host: str) -> None:
    # Given a silent host with more requested images than there are threads
    silent = [f"{host}/silent?{number}" for number in range(2 * FETCH_THREADS)]
    with fetching(connection, timeout_s=60.0) as fetcher:

        def fetch_silent() -> None:
            with suppress(CancelledError):
                list(fetcher.fetch(silent))

        waiting = threading.Thread(target=fetch_silent)
        waiting.start()
        deadline = time.monotonic() + 30
        while Host.requests["/silent"] < PER_HOST:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # When another host is asked (another name of the same), Then it answers
        second_host = host.replace("127.0.0.1", "127.1")
        assert list(fetcher.fetch([f"{second_host}/image?{number}" for number in range(40)])) == (
            [b"image"] * 40
        )
        assert Host.requests["/silent"] == PER_HOST
        fetcher.close()
        Host.resume.set()
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
        (result,) = fetcher.fetch([reference.replace("{host}", host)])
    assert isinstance(result, ItemRejected)
    # The path of a URL is shown; the target of its redirect is not.
    shown = str(result).removeprefix(f"{host}/secret-in-redirect")
    assert "secret" not in shown
    assert "secret" not in caplog.text


def test_a_good_image_leaves_no_line_in_the_log(
    fetch: Callable[[str], FetchResult], host: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert fetch(f"{host}/image?secret") == b"image"
    assert "secret" not in caplog.text
