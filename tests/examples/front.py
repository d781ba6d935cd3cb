"""A front of the gateway that can be busy: what a real one says when its limits are reached."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Front(ThreadingHTTPServer):
    """Hands requests on to the gateway, except those that it is told to refuse."""

    def __init__(self, gateway: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.gateway = urlsplit(gateway).netloc
        #: How many requests of a method are refused, and when they may come again.
        self.refusals: dict[str, tuple[int, int]] = {}
        #: Methods and paths in the order in which they came.
        self.seen: list[tuple[str, str]] = []

    def refuse(self, method: str, times: int, retry_after_s: int) -> None:
        """Answer the next requests of this method with 429."""
        self.refusals[method] = (times, retry_after_s)


class _Handler(BaseHTTPRequestHandler):
    server: Front

    def forward(self) -> None:
        front, method = self.server, self.command
        front.seen.append((method, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        times, retry_after_s = front.refusals.get(method, (0, 0))
        if times:
            front.refusals[method] = (times - 1, retry_after_s)
            problem = b'{"code": "rate_limited", "detail": "too many requests"}'
            self.answer(429, problem, {"Retry-After": str(retry_after_s)})
            return
        with closing(HTTPConnection(front.gateway, timeout=60)) as gateway:
            gateway.request(method, self.path, body, dict(self.headers))
            answer = gateway.getresponse()
            self.answer(answer.status, answer.read(), dict(answer.headers))

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = forward

    def log_message(self, *_: object) -> None: ...


class Files(SimpleHTTPRequestHandler):
    """Serves files, and says nothing of it."""

    def log_message(self, *_: object) -> None: ...
