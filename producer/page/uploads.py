"""Uploads: how much there is room for, and whose they are."""

from __future__ import annotations

import json
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import html
from .ownership import Ownership
from .responses import refused
from .upload_quota import NoRoom, UploadQuota

#: What Gradio makes of a form that holds no files, or files without a name.
_MALFORMED: Final = (AttributeError, KeyError, TypeError, ValueError)


class Uploads:
    """Hands uploads on to Gradio, and notes who sent what."""

    def __init__(self, app: ASGIApp, room: UploadQuota, holdings: Ownership) -> None:
        self._app = app
        self._room = room
        self._holdings = holdings

    async def answer(self, name: str, request: Request) -> ASGIApp:
        """The answer to somebody who is known."""
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or "transfer-encoding" in request.headers:
            return refused(411, "an upload must say how long it is")

        async def upload(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                async with self._room.held(name, int(length), receive) as counted:
                    await self._take(name, scope, counted, send)
            except NoRoom as error:
                await refused(413, str(error))(scope, receive, send)

        return upload

    async def _take(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        body, begun = bytearray(), False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    self._note(bytes(body), name)
            await send(message)

        try:
            await self._app(html.uncompressed(scope), receive, note)
        except _MALFORMED:
            if begun:
                raise
            await refused(400, "an upload is a form of files that have names")(scope, receive, send)

    def _note(self, body: bytes, name: str) -> None:
        try:
            paths = json.loads(body)
        except ValueError:
            # It says why nothing was uploaded.
            return
        if isinstance(paths, list):
            for path in paths:
                self._holdings.uploaded(path, name)
