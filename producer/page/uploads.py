"""Uploads: disk quota and ownership of the files that Gradio stores."""

from __future__ import annotations

import json
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import html
from .ownership import Ownership
from .responses import error_response
from .upload_quota import QuotaExceeded, UploadQuota

#: Errors that Gradio raises for a form without files, or with files that have no name.
_MALFORMED: Final = (AttributeError, KeyError, TypeError, ValueError)


class Uploads:
    """A handler that forwards uploads to Gradio and records their owners."""

    def __init__(self, app: ASGIApp, quota: UploadQuota, ownership: Ownership) -> None:
        self._app = app
        self._quota = quota
        self._ownership = ownership

    async def answer(self, name: str, request: Request) -> ASGIApp:
        """Return the application that answers a tenant's upload."""
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or "transfer-encoding" in request.headers:
            return error_response(411, "an upload needs a Content-Length header")

        async def upload(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                async with self._quota.reserve(name, int(length), receive) as counted:
                    await self._forward(name, scope, counted, send)
            except QuotaExceeded as error:
                await error_response(413, str(error))(scope, receive, send)

        return upload

    async def _forward(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        body, started = bytearray(), False

        async def collect(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    self._record_owner(bytes(body), name)
            await send(message)

        try:
            await self._app(html.uncompressed(scope), receive, collect)
        except _MALFORMED:
            if started:
                raise
            response = error_response(400, "an upload must be a form of files with names")
            await response(scope, receive, send)

    def _record_owner(self, body: bytes, name: str) -> None:
        try:
            paths = json.loads(body)
        except ValueError:
            # This is an error response: no file was uploaded.
            return
        if isinstance(paths, list):
            for path in paths:
                self._ownership.add_file(path, name)
