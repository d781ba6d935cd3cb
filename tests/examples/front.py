"""A proxy of the gateway that can be busy, with the responses of a gateway at its limits."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Front(ThreadingHTTPServer):
    """A proxy that forwards requests to the gateway, except those that a test makes it reject."""

    def __init__(self, gateway: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.gateway = urlsplit(gateway).netloc
        #: By method: the number of requests to reject, and the seconds of Retry-After.
        self.rejections: dict[str, tuple[int, int]] = {}
        #: Methods and paths of the requests, in order.
        self.seen: list[tuple[str, str]] = []

    def reject(self, method: str, times: int, retry_after_s: int) -> None:
        """Respond with 429 to the next requests of this method."""
        self.rejections[method] = (times, retry_after_s)


class _Handler(BaseHTTPRequestHandler):
    server: Front

    def forward(self) -> None:
        front, method = self.server, self.command
        front.seen.append((method, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        times, retry_after_s = front.rejections.get(method, (0, 0))
        if times:
            front.rejections[method] = (times - 1, retry_after_s)
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
