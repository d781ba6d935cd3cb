"""A receiver of webhooks on the loopback interface, which answers as a test tells it to."""

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
    """One request."""

    path: str
    headers: dict[str, str]
    body: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def data(self) -> dict[str, Any]:
        """The job or batch that it tells of."""
        data: dict[str, Any] = json.loads(self.body)["data"]
        return data

    def verified(self, secret: str) -> dict[str, Any]:
        """What it says, for whoever has the secret; raises WebhookVerificationError."""
        said: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return said


#: Answers a request by itself.
Answering = Callable[[BaseHTTPRequestHandler], None]


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent. `answers` are for the requests in turn; the last one is for all."""

    daemon_threads = True

    def __init__(self, *answers: Answering | int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers or (204,))
        self.received: list[Received] = []
        #: How many it was ever connected to by.
        self.connections = 0
        self.heard = threading.Semaphore(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def next(self, timeout_s: float = 60.0) -> Received:
        """Wait for one more request; returns the last one."""
        assert self.heard.acquire(timeout=timeout_s), "it was told nothing"
        return self.received[-1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Senders hang up on some of the answers."""


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
        self.server.heard.release()
        if callable(answer):
            answer(self)
        else:
            say(self, answer)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


def say(request: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
    """An answer with an empty body."""
    request.send_response(status)
    for name, value in {"Content_Length": "0", **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()


def saying(status: int, **headers: str) -> Answering:
    """The same for `answers`."""
    return lambda request: say(request, status, **headers)


def silence(request: BaseHTTPRequestHandler) -> None:
    """No answer for a long time."""
    time.sleep(30)


@contextmanager
def receiving(*answers: Answering | int) -> Iterator[Receiver]:
    """A receiver that runs."""
    with serving(Receiver(*answers)) as receiver:
        yield receiver
