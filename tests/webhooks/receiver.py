"""A webhook receiver on the loopback interface with responses that a test defines."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

from tests.serving import serving


@dataclass(frozen=True)
class Received:
    """A received request."""

    path: str
    headers: dict[str, str]
    body: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def data(self) -> dict[str, Any]:
        """The job or batch in the body."""
        data: dict[str, Any] = json.loads(self.body)["data"]
        return data

    def verify(self, secret: str) -> dict[str, Any]:
        """Verify the signature and return the payload; raises WebhookVerificationError."""
        payload: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return payload


#: Answers a request.
Responder = Callable[[BaseHTTPRequestHandler], None]


class Receiver(ThreadingHTTPServer):
    """Records requests. `answers` are its responses in order; the last one repeats."""

    daemon_threads = True

    def __init__(self, *answers: Responder | int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers or (204,))
        self.received: list[Received] = []
        #: Number of connections so far.
        self.connections = 0
        self.arrived = threading.Semaphore(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def next(self, timeout_s: float = 60.0) -> Received:
        """Wait for another request; return the last one."""
        assert self.arrived.acquire(timeout=timeout_s), "no request arrived"
        return self.received[-1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: senders disconnect during some responses."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = self.server.received
        received.append(Received(self.path, headers, body))
        answers = self.server.answers
        answer = answers[min(len(received), len(answers)) - 1]
        self.server.arrived.release()
        if callable(answer):
            answer(self)
        else:
            respond(self, answer)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


def respond(request: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
    """Send a response with an empty body."""
    request.send_response(status)
    for name, value in {"Content_Length": "0", **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()


def respond_with(status: int, **headers: str) -> Responder:
    """Return an item of `answers` that sends a response with an empty body."""
    return lambda request: respond(request, status, **headers)


def stay_silent(request: BaseHTTPRequestHandler) -> None:
    """Send no response for a long time."""
    time.sleep(30)


@contextmanager
def running_receiver(*answers: Responder | int) -> Iterator[Receiver]:
    """Run a receiver."""
    with serving(Receiver(*answers)) as receiver:
        yield receiver
