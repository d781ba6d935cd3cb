"""What a request is told that cannot be answered: problem details (RFC 9457), and the one table
from codes to HTTP status."""

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

from ..contract import ErrorCode
from ..errors import BliplineError, ConnectionFailed, QueueFull
from ..validation import format_error, join_errors
from .logs import LOGGER, request_id

MEDIA_TYPE: Final = "application/problem+json"

#: Seconds after which it is worth trying again when Redis was away.
AWAY_RETRY_S: Final = 5

#: Every code that a problem may have, with its status and its title.
STATUS: Final[Mapping[str, tuple[int, str]]] = {
    # Of the contract.
    ErrorCode.IMAGE_UNREACHABLE: (422, "The image cannot be reached"),
    ErrorCode.IMAGE_BLOCKED: (422, "The image is where none may be fetched from"),
    ErrorCode.IMAGE_TOO_LARGE: (413, "The image is too large"),
    ErrorCode.IMAGE_INVALID: (422, "That is no image"),
    ErrorCode.PROMPT_TOO_LONG: (422, "The text is too long"),
    ErrorCode.OPTION_INVALID: (422, "The request is wrong"),
    ErrorCode.UNSUPPORTED_TASK: (422, "The model does not do this task"),
    ErrorCode.DEADLINE_EXCEEDED: (504, "The deadline has passed"),
    ErrorCode.CANCELLED: (409, "It was cancelled"),
    ErrorCode.OUT_OF_MEMORY: (503, "The accelerator's memory is too small for it"),
    ErrorCode.ENGINE_UNAVAILABLE: (503, "The model cannot be reached"),
    ErrorCode.POISONED: (500, "It kills the engine"),
    ErrorCode.INTERNAL: (500, "A bug"),
    # Of producers.
    "error": (500, "It went wrong"),
    "id_taken": (409, "The id is that of something else"),
    "connection_failed": (503, "The queue cannot be reached"),
    "queue_full": (429, "The queue is full"),
    "wait_timeout": (504, "It did not end in time"),
    "expired": (410, "It is no longer kept"),
    "unknown": (404, "There is no such thing"),
    # Of the gateway.
    "bad_request": (400, "The request cannot be read"),
    "unauthorized": (401, "A valid API key is needed"),
    "forbidden": (403, "Not allowed"),
    "not_found": (404, "There is no such thing"),
    "method_not_allowed": (405, "This cannot be done with it"),
    "not_acceptable": (406, "It cannot be given in this form"),
    "request_timeout": (408, "The request did not come in time"),
    "body_too_large": (413, "The request is too large"),
    "unsupported_media_type": (415, "The body is of the wrong type"),
    "range_not_satisfiable": (416, "There is no such range"),
    "rate_limited": (429, "Too many requests"),
    "unavailable": (503, "Not available now"),
}

#: What a bare HTTP status is called.
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

#: What a problem of each status is called in the examples of the description.
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
    """Raised where a request cannot be answered; `code` is one of STATUS."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        status, _ = STATUS[code]
        more = {} if retry_after_s is None else {"Retry-After": f"{max(1, ceil(retry_after_s))}"}
        super().__init__(status, detail, {**more, **(headers or {})})
        self.code = str(code)

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


def problem_response(problem: Problem) -> Response:
    """The answer that tells of a problem."""
    status, title = STATUS[problem.code]
    body = {
        "type": f"urn:blipline:error:{problem.code}",
        "title": title,
        "status": status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": request_id.get(),
    }
    return Response(
        # What a client sent may hold lone surrogates, which have no UTF-8.
        json.dumps(body),
        status,
        problem.headers,
        MEDIA_TYPE,
    )


def as_problem(error: Exception) -> Problem:
    """What a client is told of an exception; nothing inner leaks."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, StarletteHTTPException):
        return _of_status(error)
    if isinstance(error, RequestValidationError):
        found = error.errors()
        return Problem("option_invalid", join_errors(map(_sentence, found), len(found)))
    if isinstance(error, ConnectionFailed):
        # Its message names servers: it is for the log.
        LOGGER.warning("%s", error)
        return away()
    if isinstance(error, QueueFull):
        about = "There is no room for more now: try again later"
        return Problem("queue_full", about, retry_after_s=error.retry_after_s)
    if isinstance(error, BliplineError) and error.code in STATUS:
        return Problem(error.code, str(error))
    LOGGER.error("this is a bug", exc_info=error)
    return Problem("internal", "This is a bug; the log has more under this request id")


def away() -> Problem:
    """Redis cannot be reached."""
    return Problem(
        "connection_failed",
        "The queue cannot be reached now: try again in a moment",
        retry_after_s=AWAY_RETRY_S,
    )


def ending() -> Problem:
    """The process has been told to end."""
    about = "This process is about to end: try again"
    return Problem("unavailable", about, retry_after_s=1)


def add_handlers(app: FastAPI) -> None:
    """Let every error of a route end as a problem."""

    async def tell(_: Request, error: Exception) -> Response:
        return problem_response(as_problem(error))

    async def tell_allowed(request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        if methods := _methods_of(app, getattr(request.scope.get("route"), "path", "")):
            error.headers = {**(error.headers or {}), "Allow": ", ".join(sorted(methods))}
        return problem_response(as_problem(error))

    for kind in (StarletteHTTPException, RequestValidationError, BliplineError):
        app.add_exception_handler(kind, tell)
    app.add_exception_handler(405, tell_allowed)


class Problems:
    """Turns what layers below raise into an answer (pure ASGI): nothing gets past it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            # The server does so to what has not ended some time after it was told to end itself.
            if not begun:
                await problem_response(ending())(scope, receive, send)
        except Exception as error:
            if scope["type"] != "http":
                raise
            problem = as_problem(error)
            # An answer that has begun breaks off: the server closes the connection.
            if not begun:
                await problem_response(problem)(scope, receive, send)


def _sentence(problem: Mapping[str, Any]) -> str:
    # Where it was: the body, the path, the query. The names within speak for themselves.
    name = ".".join(map(str, problem["loc"][1:])) or str(problem["loc"][0])
    if problem["type"] == "json_invalid":
        return f"the body is no JSON: {problem['ctx']['error']} at character {name}"
    return format_error(name, problem)


def _methods_of(app: FastAPI, template: str) -> set[str]:
    """What can be done with a path: each method of it is a route that knows of no other."""
    same = [route for route in app.router.routes if getattr(route, "path", None) == template]
    return {method for route in same for method in getattr(route, "methods", None) or ()}


def _of_status(error: StarletteHTTPException) -> Problem:
    code = CODES.get(error.status_code, "internal" if error.status_code >= 500 else "bad_request")
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:
        detail = STATUS[code][1]
    return Problem(code, detail, headers=error.headers)
