"""An image host that can be slow: late, dripping, and sometimes unavailable."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any, Final

from tests.serving import serving

#: Maximum seconds before a response, and between its pieces. The sum stays far below the worker's
#: FETCH_TIMEOUT_S: a slow host must not fail an item.
LATE_S: Final = 2.0
DRIP_S: Final = 0.3
DRIPS: Final = 6
#: Share of requests that get 503 while slow.
UNAVAILABLE: Final = 0.3


class Host(ThreadingHTTPServer):
    """A host of pictures by name; the query of an address only makes it unique."""

    daemon_threads = True

    def __init__(self, pictures: Mapping[str, bytes], seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pictures = pictures
        self.slow = False
        self.stopping = threading.Event()
        self._random = Random(seed)
        self._lock = threading.Lock()
        self._rejected: set[str] = set()

    def address(self, name: str, nonce: object) -> str:
        """Return an address of a picture that no other item has."""
        return f"http://127.0.0.1:{self.server_port}/{name}?{nonce}"

    def wait_s(self, longest: float) -> float:
        """Return the seconds to be silent now."""
        with self._lock:
            return self._random.uniform(0, longest) if self.slow else 0.0

    def is_unavailable(self, path: str) -> bool:
        """Return whether to answer 503: at most once per address, so that a retry succeeds."""
        with self._lock:
            if not self.slow or path in self._rejected or self._random.random() > UNAVAILABLE:
                return False
            self._rejected.add(path)
            return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect: these tests kill them."""


class _Handler(BaseHTTPRequestHandler):
    server: Host
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.server.is_unavailable(self.path):
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
    """Run a host of these pictures."""
    with serving(Host(pictures, seed)) as host:
        try:
            yield host
        finally:
            host.stopping.set()
