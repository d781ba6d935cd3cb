"""The access gate in front of Gradio: authentication, an allowlist of routes, request checks.

Gradio has some seventy routes. Some of them fetch URLs, and one rewrites the program. The gate
passes only the routes that the page uses, and responds to all others with 404.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ConnectionFailed
from ..gateway.access.auth import check_rate
from ..gateway.access.tenants import Tenant
from ..gateway.http.problems import Problem
from ..gateway.state import Gateway
from . import html, login
from .ownership import Ownership
from .pending import PendingAnswers
from .request_filter import BodyTimeout, Forbidden, Validators, filter_request, read_body
from .responses import NOT_FOUND, error_response, signed_out
from .sessions import Sessions
from .streams import end_on_shutdown
from .upload_quota import UploadQuota
from .uploads import Uploads

_API: Final = "/gradio_api"
_FILE: Final = f"{_API}/file="
_HEARTBEAT: Final = f"{_API}/heartbeat/"
#: Routes that serve no data of any tenant.
_PUBLIC: Final = ("/assets/", "/static/", "/theme.css", "/favicon.ico")
#: The gateway's identity. A page that lost its connection polls it, and then reloads.
_APP_ID: Final = f"{_API}/app_id"
_UPLOAD: Final = f"{_API}/upload"
_JOIN: Final = f"{_API}/queue/join"
#: Functions that return immediately and skip Gradio's queue.
_RUN: Final = f"{_API}/run/"
_GET: Final = frozenset(f"{_API}/{name}" for name in ("info", "startup-events", "upload_progress"))
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
#: Maximum bytes of a request body, uploads excepted.
MAX_BODY_BYTES: Final = 2**20
#: Maximum pending answers of one tenant.
MAX_PENDING: Final = 32


class AccessGate:
    """ASGI middleware that authenticates a request and forwards or answers it."""

    #: Key of the tenant's name in the scope.
    NAME: Final = "blipline.page.name"

    def __init__(
        self,
        app: ASGIApp,
        gateway: Gateway,
        sessions: Sessions,
        quota: UploadQuota,
        validators: Validators,
        pending_count: Callable[[str], int],
        pending: PendingAnswers,
    ) -> None:
        """Protect `app`; `pending_count` returns the number of a tenant's pending events."""
        self._app = app
        self._gateway = gateway
        self._streams = end_on_shutdown(app, gateway.stopping)
        self._sessions = sessions
        self._open_as = gateway.settings.page_open_as
        self._validators = validators
        self._pending_count = pending_count
        #: By tenant: events that `pending_count` does not count yet.
        self._joining: Counter[str] = Counter()
        self._pending = pending
        self._ownership = Ownership()
        self._uploads = Uploads(app, quota, self._ownership)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or the application's lifespan."""
        if scope["type"] == "http":
            try:
                answer = await self._answer(Request(scope, receive))
            except ConnectionFailed:
                answer = error_response(503, "the queue is unavailable: try again later")
            except BodyTimeout as error:
                answer = error_response(408, str(error))
            except Problem as problem:
                answer = error_response(problem.status_code, problem.detail)
            await answer(scope, receive, html.add_policy(send))
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)

    async def _answer(self, request: Request) -> ASGIApp:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", "")) or "/"
        reading = request.method in ("GET", "HEAD")
        if not reading and not _same_origin(request):
            return error_response(403, "this request comes from another site")
        if self._open_as and request.url.hostname not in _LOOPBACK:
            # DNS rebinding: the name of another site may resolve to this machine.
            return error_response(
                403, "the page is available only on this machine: open http://127.0.0.1"
            )
        if reading and path.startswith(_PUBLIC):
            return html.cache_in_browser(self._app) if path.startswith("/assets/") else self._app
        if reading and path == _APP_ID:
            return self._app
        if path == "/login" or (path == "/logout" and not reading):
            return await login.answer(request, path, self._sessions, self._check_rate)
        tenant = await self._tenant(request)
        if tenant is None:
            home = RedirectResponse(f"{request.scope.get('root_path', '')}/login", 303)
            return home if path == "/" else signed_out()
        request.scope[self.NAME] = tenant.name
        # For the access log.
        request.scope.setdefault("state", {})["tenant"] = tenant
        if request.method == "POST" and path in (_UPLOAD, _JOIN):
            # As over HTTP, a question and an upload count, but not the header's refreshes.
            await self._check_rate(tenant)
        return self._limit(tenant.name, await self._route(tenant.name, path, request))

    async def _tenant(self, request: Request) -> Tenant | None:
        if self._open_as:
            return Tenant(self._open_as)
        return await self._sessions.tenant(*login.session_token(request))

    async def _check_rate(self, tenant: Tenant) -> None:
        await check_rate(self._gateway.rate_limiter, tenant)

    def _limit(self, name: str, app: ASGIApp) -> ASGIApp:
        """Wrap `app` so that its response counts as a concurrent request of a tenant."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                with self._gateway.concurrency.request(name):
                    await app(scope, receive, send)
            except Problem as problem:
                response = error_response(problem.status_code, problem.detail)
                await response(scope, receive, send)

        return answer

    async def _route(self, name: str, path: str, request: Request) -> ASGIApp:
        """Return the application that answers an authenticated request."""
        if request.method == "POST":
            if path == _UPLOAD:
                return await self._uploads.answer(name, request)
            if path == _JOIN or path.startswith(_RUN):
                return await self._filter_body(name, path, request)
        if request.method not in ("GET", "HEAD"):
            return NOT_FOUND
        if path == "/":
            return html.rewrite_page(self._app)
        if path.startswith(_FILE):
            own = self._ownership.may_read(path.removeprefix(_FILE), name)
            return self._app if own else NOT_FOUND
        if path.startswith(_HEARTBEAT):
            session_hash = path.removeprefix(_HEARTBEAT)
            return self._streams if self._ownership.may_use(session_hash, name) else NOT_FOUND
        if path == f"{_API}/queue/data":
            # Like Gradio, this reads the last of several values.
            session_hash = request.query_params.get("session_hash", "")
            if not self._ownership.may_use(session_hash, name):
                return NOT_FOUND
            return self._pending.cancel_on_disconnect(self._streams, session_hash)
        return self._app if path in _GET or path.startswith("/results/") else NOT_FOUND

    async def _filter_body(self, name: str, path: str, request: Request) -> ASGIApp:
        body = await read_body(request, MAX_BODY_BYTES)
        if body is None:
            return error_response(413, "the request is too large")
        try:
            filtered = filter_request(body, name, self._ownership, self._validators)
        except Forbidden as error:
            return error_response(403, str(error))
        app = _with_body(self._app, filtered)
        if path != _JOIN:
            return app
        if self._pending_count(name) + self._joining[name] >= MAX_PENDING:
            return error_response(
                429, f"you have {MAX_PENDING} pending requests: wait for an answer"
            )
        return self._count_joining(name, app)

    def _count_joining(self, name: str, app: ASGIApp) -> ASGIApp:
        # This runs before the first await, so that concurrent requests see it.
        self._joining[name] += 1

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                self._joining[name] -= 1
                self._joining += Counter()

        return answer


def _same_origin(request: Request) -> bool:
    """Return whether a request comes from the page or from a client other than a browser.

    This protects against CSRF.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:
        return False


def _with_body(app: ASGIApp, body: bytes) -> ASGIApp:
    """Return an application that receives this body in place of the request's own."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "headers": list(scope["headers"])}
        MutableHeaders(scope=scope)["content-length"] = str(len(body))
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        await app(scope, replay, send)

    return answer
