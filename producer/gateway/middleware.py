"""What every answer has: a request id, headers that browsers heed, a line in the log, a count."""

from __future__ import annotations

import re
import time
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..ledger.ids import new_id
from .logs import ACCESS, request_id
from .metrics import Metrics
from .problems import Problem
from .settings import PAGE, GatewaySettings

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: Unless the answer says otherwise, as the page's do.
DEFAULTS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

#: What the log says where the client hung up before there was an answer; nobody is sent it.
HUNG_UP: Final = 499


class AnswerHeaders:
    """The outermost layer (pure ASGI): no answer gets past it without them."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id.set(_request_id(Headers(scope=scope)))
        began, status = time.perf_counter(), 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message)
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            self._note(scope, status or HUNG_UP, time.perf_counter() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], _route(scope)
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)
        caller = scope.get("state", {}).get("caller")
        about: dict[str, Any] = {"method": method, "route": route, "status": status}
        about |= {"ms": round(seconds * 1000, 1), "name": caller.name if caller else ""}
        ACCESS.info("%s %s %d", method, route, status, extra={"about": about})


def _add_headers(message: Message) -> None:
    headers = MutableHeaders(raw=[*message.get("headers", ())])
    for name, value in DEFAULTS.items():
        headers.setdefault(name, value)
    headers["X-Request-Id"] = request_id.get()
    message["headers"] = headers.raw


def _request_id(headers: Headers) -> str:
    """The caller's own where it is harmless in logs."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else new_id()


def _route(scope: Scope) -> str:
    """The template of the path; never the path, which has ids in it, and whatever anybody likes."""
    mounted = scope.get("root_path", "")
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        # The description is no route of FastAPI's own kind.
        path = scope["path"] if scope["path"] == "/openapi.json" else "" if mounted else "none"
    return f"{mounted}{path}"


#: Bytes around an image: the rest of a job, or the frame of a form.
_AROUND: Final = 2**20
#: Where bodies come in as streams.
_STREAMS: Final = "/v1/batches"


class BodyBounds:
    """Ends a request whose body is too large, before or while it is read (pure ASGI)."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._stream = settings.max_body_bytes
        # An image may come as base64, four characters for three bytes.
        self._other = settings.max_image_bytes * 4 // 3 + _AROUND

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The page has bounds of its own: several files are one upload there.
        if scope["type"] != "http" or scope["path"].startswith(f"{PAGE}/"):
            await self._app(scope, receive, send)
            return
        most = self._stream if scope["path"] == _STREAMS else self._other
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise _too_large(most)
        received = 0

        async def receive_on() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise _too_large(most)
            return message

        await self._app(scope, receive_on, send)


def _too_large(most: int) -> Problem:
    return Problem("body_too_large", f"The body has more than the {most:,} bytes that it may have")
