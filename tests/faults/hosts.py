"""An image host that can be slow: late, dripping, and unavailable now and then."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any, Final

from tests.serving import serving

#: Seconds before an answer begins, and between two pieces of one, at most. The sum stays far
#: below the worker's FETCH_TIMEOUT_S: slow is no reason to fail.
LATE_S: Final = 2.0
DRIP_S: Final = 0.3
DRIPS: Final = 6
#: Requests that are refused in bad times.
REFUSED: Final = 0.3


class Host(ThreadingHTTPServer):
    """Serves pictures by name; what follows a `?` only makes addresses differ."""

    daemon_threads = True

    def __init__(self, pictures: Mapping[str, bytes], seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pictures = pictures
        self.slow = False
        self.stopping = threading.Event()
        self._random = Random(seed)
        self._lock = threading.Lock()
        self._refused: set[str] = set()

    def address(self, name: str, once: object) -> str:
        """An address of a picture that no other item has."""
        return f"http://127.0.0.1:{self.server_port}/{name}?{once}"

    def wait_s(self, longest: float) -> float:
        """How long to be silent now."""
        with self._lock:
            return self._random.uniform(0, longest) if self.slow else 0.0

    def refuses(self, path: str) -> bool:
        """Whether to answer 503. Each address is refused once at most, so that a second try by
        the worker, which makes three, must succeed."""
        with self._lock:
            if not self.slow or path in self._refused or self._random.random() > REFUSED:
                return False
            self._refused.add(path)
            return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: Host
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.server.refuses(self.path):
            self._head(503, 0)
            return
        data = self.server.pictures.get(self.path.lstrip("/").partition("?")[0])
        if data is None:
            self._head(404, 0)
            return
        self.server.stopping.wait(self.server.wait_s(LATE_S))
        self._head(200, len(data))
        piece = -(-len(data) // DRIPS)
        for start in range(0, len(data), piece):
            self.server.stopping.wait(self.server.wait_s(DRIP_S))
            self.wfile.write(data[start : start + piece])

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def running_host(pictures: Mapping[str, bytes], seed: int = 0) -> Iterator[Host]:
    """A host of these pictures."""
    with serving(Host(pictures, seed)) as host:
        try:
            yield host
        finally:
            host.stopping.set()
