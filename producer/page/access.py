"""What stands before Gradio: who may come in, which of its routes exist, and what they may say.

Gradio brings some seventy routes, among them some that fetch URLs, and one that rewrites the
program. Here exist those that the page uses; everything else is not found.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ConnectionFailed
from . import html, login
from .ownership import Ownership
from .pending import PendingAnswers
from .request_filter import Forbidden, Inputs, TooSlow, body_of, checked
from .responses import NOT_FOUND, refused, signed_out
from .sessions import Sessions
from .streams import until_stopped
from .upload_quota import UploadQuota
from .uploads import Uploads

_API: Final = "/gradio_api"
_FILE: Final = f"{_API}/file="
_HEARTBEAT: Final = f"{_API}/heartbeat/"
#: What holds nothing of anybody.
_PUBLIC: Final = ("/assets/", "/static/", "/theme.css", "/favicon.ico")
#: Which gateway this is. A page that lost its own asks for it, and loads itself anew.
_WHICH: Final = f"{_API}/app_id"
_JOIN: Final = f"{_API}/queue/join"
#: What waits for nothing, and stands in no queue.
_RUN: Final = f"{_API}/run/"
_GET: Final = frozenset(f"{_API}/{name}" for name in ("info", "startup-events", "upload_progress"))
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
#: Bytes of one request that is no upload.
MAX_BODY_BYTES: Final = 2**20
#: Buttons that one name may have pressed without an answer yet.
MAX_WAITING: Final = 32


class AccessGate:
    """Lets through, with whose request it is in the scope, or answers itself."""

    #: Where the scope has the name.
    NAME: Final = "blipline.page.name"

    def __init__(
        self,
        app: ASGIApp,
        sessions: Sessions,
        open_as: str,
        room: UploadQuota,
        inputs: Inputs,
        waiting: Callable[[str], int],
        places: PendingAnswers,
        stopping: asyncio.Event,
    ) -> None:
        """`waiting`: how many buttons a name has pressed without an answer yet."""
        self._app = app
        self._streams = until_stopped(app, stopping)
        self._sessions = sessions
        self._open_as = open_as
        self._inputs = inputs
        self._waiting = waiting
        #: By name: those on their way to where `waiting` counts them.
        self._joining: Counter[str] = Counter()
        self._places = places
        self._holdings = Ownership()
        self._uploads = Uploads(app, room, self._holdings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the application."""
        if scope["type"] == "http":
            try:
                answer = await self._answer(Request(scope, receive))
            except ConnectionFailed:
                answer = refused(503, "the queue cannot be reached now: try again later")
            except TooSlow as error:
                answer = refused(408, str(error))
            await answer(scope, receive, html.protected(send))
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)

    async def _answer(self, request: Request) -> ASGIApp:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", "")) or "/"
        reading = request.method in ("GET", "HEAD")
        if not reading and not _same_origin(request):
            return refused(403, "this request comes from another site")
        if self._open_as and request.url.hostname not in _LOOPBACK:
            # Another site's name may have been made to lead here.
            return refused(403, "the page is open to this machine alone: use http://127.0.0.1")
        if reading and path.startswith(_PUBLIC):
            return html.cached(self._app) if path.startswith("/assets/") else self._app
        if reading and path == _WHICH:
            return self._app
        if path == "/login" or (path == "/logout" and not reading):
            return await login.answer(request, path, self._sessions)
        name = self._open_as or await self._sessions.name(*login.render_login(request))
        if name is None:
            home = RedirectResponse(f"{request.scope.get('root_path', '')}/login", 303)
            return home if path == "/" else signed_out()
        request.scope[self.NAME] = name
        return await self._of(name, path, request)

    async def _of(self, name: str, path: str, request: Request) -> ASGIApp:
        """The answer to somebody who is known."""
        if request.method == "POST":
            if path == f"{_API}/upload":
                return await self._uploads.answer(name, request)
            if path == _JOIN or path.startswith(_RUN):
                return await self._checked(name, path, request)
        if request.method not in ("GET", "HEAD"):
            return NOT_FOUND
        if path == "/":
            return html.rewritten(self._app)
        if path.startswith(_FILE):
            own = self._holdings.may_read(path.removeprefix(_FILE), name)
            return self._app if own else NOT_FOUND
        if path.startswith(_HEARTBEAT):
            page = path.removeprefix(_HEARTBEAT)
            return self._streams if self._holdings.may_use(page, name) else NOT_FOUND
        if path == f"{_API}/queue/data":
            # The last, as Gradio reads it.
            page = request.query_params.get("session_hash", "")
            own = self._holdings.may_use(page, name)
            return self._places.watched(self._streams, page) if own else NOT_FOUND
        return self._app if path in _GET or path.startswith("/results/") else NOT_FOUND

    async def _checked(self, name: str, path: str, request: Request) -> ASGIApp:
        body = await body_of(request, MAX_BODY_BYTES)
        if body is None:
            return refused(413, "the request is too large")
        try:
            allowed = _with_body(self._app, checked(body, name, self._holdings, self._inputs))
        except Forbidden as error:
            return refused(403, str(error))
        if path != _JOIN:
            return allowed
        if self._waiting(name) + self._joining[name] >= MAX_WAITING:
            return refused(429, f"{MAX_WAITING} of your questions are not answered yet: wait")
        return self._counted(name, allowed)

    def _counted(self, name: str, app: ASGIApp) -> ASGIApp:
        # At once, so that the next to ask knows of it.
        self._joining[name] += 1

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                self._joining[name] -= 1
                self._joining += Counter()

        return answer


def _same_origin(request: Request) -> bool:
    """Whether a request that changes something was made by our own page, or by no browser."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:
        return False


def _with_body(app: ASGIApp, body: bytes) -> ASGIApp:
    """Hand a request on with another body."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "headers": list(scope["headers"])}
        MutableHeaders(scope=scope)["content-length"] = str(len(body))
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        await app(scope, replay, send)

    return answer
