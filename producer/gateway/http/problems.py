"""Problem details (RFC 9457) of failed requests, and the table of HTTP statuses by error code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...contract import ErrorCode
from ...errors import BliplineError, ConnectionFailed, QueueFull, StorageQuotaExceeded
from ...validation import format_error, join_errors
from .logs import LOGGER, request_id

MEDIA_TYPE: Final = "application/problem+json"

#: Retry-After, in seconds, while Redis is unreachable.
REDIS_RETRY_S: Final = 5

#: HTTP status and title of every error code.
STATUS: Final[Mapping[str, tuple[int, str]]] = {
    # Codes of the contract.
    ErrorCode.IMAGE_UNREACHABLE: (422, "The image is unreachable"),
    ErrorCode.IMAGE_BLOCKED: (422, "The host of the image is blocked"),
    ErrorCode.IMAGE_TOO_LARGE: (413, "The image is too large"),
    ErrorCode.IMAGE_INVALID: (422, "The image is invalid"),
    ErrorCode.PROMPT_TOO_LONG: (422, "The text is too long"),
    ErrorCode.OPTION_INVALID: (422, "The request is invalid"),
    ErrorCode.UNSUPPORTED_TASK: (422, "The model does not support this task"),
    ErrorCode.DEADLINE_EXCEEDED: (504, "The deadline has passed"),
    ErrorCode.CANCELLED: (409, "The job was cancelled"),
    ErrorCode.OUT_OF_MEMORY: (503, "The accelerator is out of memory"),
    ErrorCode.ENGINE_UNAVAILABLE: (503, "The engine is unavailable"),
    ErrorCode.POISONED: (500, "The item crashes the engine"),
    ErrorCode.INTERNAL: (500, "Internal error"),
    # Codes of the client's errors.
    "error": (500, "Unspecified error"),
    "id_taken": (409, "The id is in use"),
    "connection_failed": (503, "The queue is unreachable"),
    "queue_full": (429, "The queue is full"),
    "quota_exceeded": (429, "The storage quota is used up"),
    "wait_timeout": (504, "The wait timed out"),
    "expired": (410, "The result has expired"),
    "unknown": (404, "Not found"),
    # Codes of the gateway.
    "bad_request": (400, "The request is malformed"),
    "unauthorized": (401, "A valid API key is required"),
    "forbidden": (403, "Access denied"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "not_acceptable": (406, "Not acceptable"),
    "request_timeout": (408, "The request timed out"),
    "body_too_large": (413, "The request body is too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "range_not_satisfiable": (416, "Range not satisfiable"),
    "rate_limited": (429, "Too many requests"),
    "daily_quota_exceeded": (429, "The daily quota of the API key is used up"),
    "unavailable": (503, "Service unavailable"),
}

#: Error codes of bare HTTP statuses.
CODES: Final[Mapping[int, str]] = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    429: "rate_limited",
    503: "unavailable",
}

#: Error codes in the examples of the OpenAPI description.
EXAMPLES: Final[Mapping[int, str]] = {
    **CODES,
    409: "id_taken",
    410: "expired",
    422: "option_invalid",
    429: "queue_full",
    500: "internal",
    503: "connection_failed",
}


class Problem(HTTPException):
    """An error response to a request; `code` is a key of STATUS."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        status, _ = STATUS[code]
        all_headers = dict(headers or {})
        if retry_after_s is not None:
            all_headers.setdefault("Retry-After", f"{max(1, ceil(retry_after_s))}")
        super().__init__(status, detail, all_headers)
        self.code = str(code)

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


def problem_response(problem: Problem) -> Response:
    """Return a problem as an `application/problem+json` response."""
    status, title = STATUS[problem.code]
    body = {
        "type": f"urn:blipline:error:{problem.code}",
        "title": title,
        "status": status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": request_id(),
    }
    # ASCII: a detail that quotes the client may contain lone surrogates, which UTF-8 cannot encode.
    return Response(json.dumps(body), status, problem.headers, MEDIA_TYPE)


def as_problem(error: Exception) -> Problem:
    """Return the problem for an exception, without internal details."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, StarletteHTTPException):
        return _http_problem(error)
    if isinstance(error, RequestValidationError):
        errors = error.errors()
        return Problem("option_invalid", join_errors(map(_format, errors), len(errors)))
    if isinstance(error, ConnectionFailed):
        # The message contains server names, so only the log contains it.
        LOGGER.warning("%s", error)
        return redis_unavailable()
    if isinstance(error, StorageQuotaExceeded):
        return Problem(error.code, str(error), retry_after_s=error.retry_after_s)
    if isinstance(error, QueueFull):
        detail = "The queue is full: try again later"
        return Problem("queue_full", detail, retry_after_s=error.retry_after_s)
    if isinstance(error, BliplineError) and error.code in STATUS:
        return Problem(error.code, str(error))
    LOGGER.error("internal error", exc_info=error)
    return Problem("internal", "Internal error; the log contains details under this request id")


def redis_unavailable() -> Problem:
    """Return the problem for an unreachable Redis."""
    return Problem(
        "connection_failed",
        "The queue is unreachable: try again in a moment",
        retry_after_s=REDIS_RETRY_S,
    )


def shutting_down() -> Problem:
    """Return the problem for a process that is shutting down."""
    return Problem("unavailable", "The gateway is shutting down: try again", retry_after_s=1)


def add_exception_handlers(app: FastAPI) -> None:
    """Convert the errors of all routes to problems."""

    async def handle(_: Request, error: Exception) -> Response:
        return problem_response(as_problem(error))

    async def handle_method_not_allowed(request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        if methods := _methods_of(app, getattr(request.scope.get("route"), "path", "")):
            error.headers = {**(error.headers or {}), "Allow": ", ".join(sorted(methods))}
        return problem_response(as_problem(error))

    for kind in (StarletteHTTPException, RequestValidationError, BliplineError):
        app.add_exception_handler(kind, handle)
    app.add_exception_handler(405, handle_method_not_allowed)


class ProblemMiddleware:
    """ASGI middleware that converts exceptions of the layers below to problems."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response_started = False

        async def track_start(message: Message) -> None:
            nonlocal response_started
            response_started = True
            await send(message)

        try:
            await self._app(scope, receive, track_start)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            # uvicorn cancels requests that outlast its shutdown timeout.
            if not response_started:
                await problem_response(shutting_down())(scope, receive, send)
        except Exception as error:
            if scope["type"] != "http":
                raise
            problem = as_problem(error)
            # A response that has started stays incomplete: the server closes the connection.
            if not response_started:
                await problem_response(problem)(scope, receive, send)


def _format(error: Mapping[str, Any]) -> str:
    # The first part of `loc` is the body, path or query; the names within are sufficient.
    name = ".".join(map(str, error["loc"][1:])) or str(error["loc"][0])
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error['ctx']['error']} at character {name}"
    return format_error(name, error)


def _methods_of(app: FastAPI, template: str) -> set[str]:
    """Return all methods of a path; FastAPI has one route for each."""
    same = [route for route in app.router.routes if getattr(route, "path", None) == template]
    return {method for route in same for method in getattr(route, "methods", None) or ()}


def _http_problem(error: StarletteHTTPException) -> Problem:
    code = CODES.get(error.status_code, "internal" if error.status_code >= 500 else "bad_request")
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:
        detail = STATUS[code][1]
    return Problem(code, detail, headers=error.headers)
