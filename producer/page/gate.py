"""What stands before Gradio: who may come in, which of its routes exist, and what they may say.

Gradio brings some seventy routes, among them some that fetch URLs, and one that rewrites the
program. Here exist those that the page uses; everything else is not found.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import unquote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ConnectionFailed
from . import disk, document, login
from .holdings import Holdings
from .payload import Forbidden, body_of, checked
from .sessions import Sessions
from .streams import until_stopped

_API: Final = "/gradio_api"
_FILE: Final = f"{_API}/file="
_HEARTBEAT: Final = f"{_API}/heartbeat/"
#: What holds nothing of anybody.
_PUBLIC: Final = ("/assets/", "/static/", "/theme.css", "/favicon.ico")
_GET: Final = frozenset(
    f"{_API}/{name}" for name in ("info", "startup-events", "app_id", "upload_progress")
)
_POST: Final = frozenset(f"{_API}/{name}" for name in ("queue/join", "cancel"))
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
#: Bytes of one request that is no upload.
MAX_BODY_BYTES: Final = 2**20

Answer = Callable[[Scope, Receive, Send], Awaitable[None]]


class Gate:
    """Lets through, with whose request it is in the scope, or answers itself."""

    #: Where the scope has the name.
    NAME: Final = "blipline.page.name"

    def __init__(
        self,
        app: ASGIApp,
        sessions: Sessions,
        open_as: str,
        files: str,
        stopping: asyncio.Event,
    ) -> None:
        self._app = app
        self._streams = until_stopped(app, stopping)
        self._sessions = sessions
        self._open_as = open_as
        self._files = files
        self._holdings = Holdings()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the application."""
        if scope["type"] == "http":
            try:
                answer = await self._answer(Request(scope, receive))
            except ConnectionFailed:
                answer = _refused(503, "the queue cannot be reached now: try again later")
            await answer(scope, receive, document.protected(send))
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)

    async def _answer(self, request: Request) -> Answer:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", "")) or "/"
        reading = request.method in ("GET", "HEAD")
        if not reading and not _same_origin(request):
            return _refused(403, "this request comes from another site")
        if self._open_as and request.url.hostname not in _LOOPBACK:
            # Another site's name may have been made to lead here.
            return _refused(403, "the page is open to this machine alone: use http://127.0.0.1")
        if reading and path.startswith(_PUBLIC):
            return document.cached(self._app) if path.startswith("/assets/") else self._app
        if path in ("/login", "/logout"):
            return await login.answer(request, path, self._sessions)
        name = self._open_as or await self._sessions.name(*login.shown(request))
        if name is None:
            home = RedirectResponse(f"{request.scope.get('root_path', '')}/login", 303)
            return home if path == "/" else _refused(401, "sign in: reload the page")
        request.scope[self.NAME] = name
        return await self._of(name, path, request)

    async def _of(self, name: str, path: str, request: Request) -> Answer:
        """The answer to somebody who is known."""
        if request.method == "POST":
            if path == f"{_API}/upload":
                return await self._upload(name, request)
            return await self._checked(name, request) if path in _POST else _NOT_FOUND
        if request.method not in ("GET", "HEAD"):
            return _NOT_FOUND
        if path == "/":
            return document.rewritten(self._app)
        if path.startswith(_FILE):
            own = self._holdings.may_read(unquote(path.removeprefix(_FILE)), name)
            return self._app if own else _NOT_FOUND
        if path == f"{_API}/queue/data" or path.startswith(_HEARTBEAT):
            page = request.query_params.get("session_hash", path.removeprefix(_HEARTBEAT))
            return self._streams if self._holdings.may_use(page, name) else _NOT_FOUND
        return self._app if path in _GET or path.startswith("/results/") else _NOT_FOUND

    async def _checked(self, name: str, request: Request) -> Answer:
        body = await body_of(request, MAX_BODY_BYTES)
        if body is None:
            return _refused(413, "the request is too large")
        try:
            allowed = checked(body, name, self._holdings)
        except Forbidden as error:
            return _refused(403, str(error))
        return _with_body(self._app, allowed)

    async def _upload(self, name: str, request: Request) -> Answer:
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or "transfer-encoding" in request.headers:
            return _refused(411, "an upload must say how long it is")
        if (reason := await run_in_threadpool(disk.no_room, self._files, int(length))) is not None:
            return _refused(413, reason)

        async def upload(scope: Scope, receive: Receive, send: Send) -> None:
            body = bytearray()

            async def note(message: Message) -> None:
                if message["type"] == "http.response.body":
                    body.extend(message.get("body", b""))
                    if not message.get("more_body"):
                        self._uploaded(bytes(body), name)
                await send(message)

            await self._app(document.uncompressed(scope), receive, note)

        return upload

    def _uploaded(self, body: bytes, name: str) -> None:
        try:
            paths = json.loads(body)
        except ValueError:
            # It says why nothing was uploaded.
            return
        if isinstance(paths, list):
            for path in paths:
                self._holdings.uploaded(path, name)


def _refused(status: int, reason: str) -> Response:
    return PlainTextResponse(reason, status)


_NOT_FOUND: Final = _refused(404, "there is no such thing here")


def _same_origin(request: Request) -> bool:
    """Whether a request that changes something was made by our own page, or by no browser."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _with_body(app: ASGIApp, body: bytes) -> Answer:
    """Hand a request on with another body."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "headers": list(scope["headers"])}
        MutableHeaders(scope=scope)["content-length"] = str(len(body))
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        await app(scope, replay, send)

    return answer
