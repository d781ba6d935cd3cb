"""Errors of other APIs: problems of the gateway, converted to the form that their clients read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import MEDIA_TYPE


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An error in the form of an API."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


#: Returns the error for the status, the code and the detail of a problem.
ConvertError = Callable[[int, str, str], ErrorResponse]


class ErrorFormatMiddleware:
    """ASGI middleware that converts problems on the paths that begin with `prefix`.

    Every layer below it, authentication and limits included, responds with problems alone.
    """

    def __init__(self, app: ASGIApp, prefix: str, convert: ConvertError) -> None:
        self._app = app
        self._prefix = prefix
        self._convert = convert

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not f"{scope['path']}/".startswith(self._prefix):
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def send_converted(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=[*message.get("headers", ())])
                if headers.get("content-type", "").startswith(MEDIA_TYPE):
                    start = message
                    return
            elif start is not None:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    await self._send(start, body, send)
                return
            await send(message)

        await self._app(scope, receive, send_converted)

    async def _send(self, start: Message, body: bytes, send: Send) -> None:
        problem = json.loads(body or b"{}")
        error = self._convert(
            start["status"], problem.get("code", "error"), problem.get("detail", "")
        )
        content = json.dumps(error.body).encode()
        headers = MutableHeaders(raw=[*start["headers"]])
        headers["content-type"] = "application/json"
        headers["content-length"] = str(len(content))
        for name, value in error.headers.items():
            headers[name] = value
        await send({**start, "status": error.status, "headers": headers.raw})
        await send({"type": "http.response.body", "body": content if body else b""})
