"""ASGI middleware for every request: request id, security headers, access log, metrics and the
body size limit."""

from __future__ import annotations

import re
import time
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...ledger.ids import new_id
from ...net.redact import redact_url
from ...observability import tracing
from ...observability.logs import context, fields
from ..settings import PAGE_PATH, GatewaySettings
from .logs import ACCESS, request_id
from .metrics import Metrics
from .problems import Problem

#: Default headers of every response; the page overrides some of them.
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

#: Status in the log if the client disconnects before the response; it is never sent.
CLIENT_CLOSED_REQUEST: Final = 499

#: Bytes in addition to an image: the rest of a job, or the parts of a form.
_IMAGE_OVERHEAD: Final = 2**20
#: Path with bodies that are read as streams.
_STREAM_PATH: Final = "/v1/batches"
#: Paths of monitors, whose requests are not traced.
_UNTRACED: Final = {"/healthz", "/readyz", "/metrics"}
#: Pattern of client request ids that are accepted, as they are safe in logs.
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: The trace id in a `traceparent` header of W3C Trace Context; zeros alone are none.
_TRACE_ID: Final = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")


class HeadersMiddleware:
    """The outermost middleware: it adds headers to responses, and logs and counts requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context.set({"request_id": _request_id(Headers(scope=scope))})
        started, status, sent_bytes = time.perf_counter(), 0, 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message)
            await send(message)
            sent_bytes += len(message.get("body", b""))

        span = None
        if tracing.is_on() and scope["path"] not in _UNTRACED:
            parent = Headers(scope=scope).get("traceparent")
            span = tracing.start_span(scope["method"], kind="SERVER", parent=parent)
        try:
            with tracing.current(span):
                await self._app(scope, receive, send_with_headers)
        finally:
            if span is not None:
                span.update_name(f"{scope['method']} {_route(scope)}")
                span.set_attribute("http.response.status_code", status)
                span.end()
            seconds = time.perf_counter() - started
            self._record(scope, status or CLIENT_CLOSED_REQUEST, seconds, sent_bytes)

    def _record(self, scope: Scope, status: int, seconds: float, sent_bytes: int) -> None:
        method, route = scope["method"], _route(scope)
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)
        tenant = scope.get("state", {}).get("tenant")
        path = redact_url(scope["path"] + ("?…" if scope["query_string"] else ""))
        values = fields(
            method=method,
            path=path,
            route=route,
            status=status,
            ms=round(seconds * 1000, 1),
            bytes=sent_bytes,
            client=(scope.get("client") or ("",))[0],
            name=tenant and tenant.name,
            key=tenant and tenant.key_id,
        )
        ACCESS.info("request", extra=values)


class BodyLimitMiddleware:
    """Middleware that rejects a request with a too large body, before or while it is read."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._max_stream_bytes = settings.max_body_bytes
        # An image may be base64, four characters for three bytes.
        self._max_bytes = settings.max_image_bytes * 4 // 3 + _IMAGE_OVERHEAD

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The page has its own limits, because its uploads consist of several files.
        if scope["type"] != "http" or scope["path"].startswith(f"{PAGE_PATH}/"):
            await self._app(scope, receive, send)
            return
        limit = self._max_stream_bytes if scope["path"] == _STREAM_PATH else self._max_bytes
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise _too_large(limit)
        received = 0

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit)
            return message

        await self._app(scope, receive_within_limit, send)


def _request_id(headers: Headers) -> str:
    """Return the request id or the trace id of the client if it is safe in logs, else a new one."""
    client_id = headers.get("x-request-id", "")
    if _REQUEST_ID.fullmatch(client_id):
        return client_id
    trace = _TRACE_ID.fullmatch(headers.get("traceparent", ""))
    return new_id() if trace is None else trace[1]


def _add_headers(message: Message) -> None:
    headers = MutableHeaders(raw=[*message.get("headers", ())])
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    headers["X-Request-Id"] = request_id()
    message["headers"] = headers.raw


def _route(scope: Scope) -> str:
    """Return the route's template, which, unlike the path, contains no ids."""
    mounted = scope.get("root_path", "")
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        # FastAPI serves the OpenAPI description by a route of another class.
        path = scope["path"] if scope["path"] == "/openapi.json" else "" if mounted else "none"
    return f"{mounted}{path}"


def _too_large(limit: int) -> Problem:
    return Problem("body_too_large", f"The body exceeds the limit of {limit:,} bytes")
