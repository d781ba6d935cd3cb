"""An image host whose paths behave in different ways, and a fetcher that may reach it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import redis

from producer.contract import ErrorCode
from producer.ledger.keys import Keys
from producer.net.address_policy import AddressPolicy
from worker.errors import ItemRejected
from worker.images.fetcher import Fetcher, FetchResult

NO_PREFIX = Keys()
LOOPBACK = AddressPolicy(allow=["127.0.0.0/8", "::1"])


class Host(BaseHTTPRequestHandler):
    """An image host whose paths behave in different ways."""

    #: The times of the requests for each path, on the monotonic clock.
    requests: ClassVar[defaultdict[str, list[float]]] = defaultdict(list)
    stop = threading.Event()

    def do_GET(self) -> None:
        self.requests[self.path].append(time.monotonic())
        tries = len(self.requests[self.path])
        if self.path == "/flaky" and tries < 3:
            self._answer(503, b"")
        elif self.path == "/busy" and tries == 1:
            self._answer(429, b"", {"Retry-After": "1"})
        elif self.path == "/busy-until" and tries == 1:
            self._answer(503, b"", {"Retry-After": formatdate(time.time() + 3, usegmt=True)})
        elif self.path == "/closed":
            self._answer(503, b"", {"Retry-After": "7"})
        elif self.path == "/down":
            self._answer(500, b"")
        elif self.path == "/cut" and tries == 1:
            self._answer(200, b"bytes of", {"Content-Length": "13"})
            self.close_connection = True
        elif self.path == "/slow-once" and tries == 1:
            self.stop.wait(60)
        elif self.path == "/moved":
            self._answer(302, b"", {"Location": "/image"})
        elif self.path == "/moved-for-ever":
            self._pour(b"HTTP/1.0 302 Found\r\nLocation: /image\r\n\r\n")
        elif self.path == "/round":
            self._answer(302, b"", {"Location": "/round"})
        elif self.path == "/huge":
            self._answer(200, bytes(5000))
        elif self.path == "/drip":
            self._drip(b"HTTP/1.0 200 OK\r\n\r\n", b".")
        elif self.path.startswith("/drip-headers"):
            self._drip(b"HTTP/1.0 200 OK\r\n", b"X: y\r\n")
        elif self.path == "/missing":
            self._answer(404, b"")
        else:
            self._answer(200, b"bytes of " + self.path.encode())

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        # The client may have closed the connection.
        with suppress(OSError):
            self.wfile.write(body)

    def _drip(self, start: bytes, drop: bytes) -> None:
        with suppress(OSError):
            self.wfile.write(start)
            # Less than 100 KiB, the longest header that httpcore reads, in 20 s at least.
            for _ in range(400):
                self.wfile.write(drop)
                self.stop.wait(0.05)

    def _pour(self, start: bytes) -> None:
        with suppress(OSError):
            self.wfile.write(start)
            while not self.stop.is_set():
                self.wfile.write(bytes(1 << 16))

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    #: Connections that may wait to be accepted: all fetch threads come at once.
    request_queue_size = 128


@contextmanager
def running_fetcher(connection: redis.Redis, **settings: Any) -> Iterator[Fetcher]:
    """A fetcher for the loopback network."""
    defaults: dict[str, Any] = {
        "image_root": None,
        "max_bytes": 4096,
        "timeout_s": 3.0,
        "policy": LOOPBACK,
    }
    fetcher = Fetcher(connection, **{**defaults, **settings})
    try:
        yield fetcher
    finally:
        fetcher.close()


def eventually(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def store_blobs(
    connection: redis.Redis, images: Sequence[bytes], keys: Keys = NO_PREFIX
) -> list[str]:
    """Store images in Redis and return their references."""
    references = [f"blob:{hashlib.sha256(image).hexdigest()}" for image in images]
    for reference, image in zip(references, images, strict=True):
        connection.set(keys.blob(reference), image)
    return references


def calls(connection: redis.Redis, command: str) -> int:
    """Return the number of calls of a Redis command."""
    stats: dict[str, Any] = connection.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def code_of(result: FetchResult) -> ErrorCode:
    assert isinstance(result, ItemRejected), result
    return result.code
