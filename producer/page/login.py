"""Login with an API key, and logout."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ..gateway.access.tenants import Tenant
from ..gateway.http.problems import Problem
from .html import ICON_LINK
from .request_filter import read_body
from .sessions import SESSION_S, Sessions

COOKIE: Final = "blipline-page"
_TEMPLATE: Final = Path(__file__).with_name("login.html")
_STYLE: Final = Path(__file__).with_name("style.css")
#: Maximum bytes of the submitted form.
_MAX_FORM_BYTES: Final = 4096


#: Counts a request of a tenant; raises Problem above the key's rate.
CheckRate = Callable[[Tenant], Awaitable[object]]


async def answer(
    request: Request, path: str, sessions: Sessions, check_rate: CheckRate
) -> Response:
    """Show the login form, open a session with the submitted key, or log out."""
    if path == "/logout":
        return _sign_out(request, sessions)
    if request.method != "POST":
        return _form(request)
    try:
        key = await _submitted_key(request)
        tenant = await sessions.authenticate(key, session_token(request)[1])
        await check_rate(tenant)
    except Problem as problem:
        is_invalid = problem.code == "unauthorized"
        message = "This API key is unknown or was revoked." if is_invalid else problem.detail
        return _form(request, message, problem.status_code)
    token = sessions.open(key, tenant)
    response = _redirect(request, "/")
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(SESSION_S),
        path=request.scope.get("root_path") or "/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


def session_token(request: Request) -> tuple[str, str]:
    """Return the session token of a request's cookie, and the client's address."""
    return request.cookies.get(COOKIE, ""), request.client.host if request.client else ""


def _sign_out(request: Request, sessions: Sessions) -> Response:
    response = _redirect(request, "/login")
    sessions.close(session_token(request)[0])
    response.delete_cookie(COOKIE, path=request.scope.get("root_path") or "/")
    return response


async def _submitted_key(request: Request) -> str:
    body = await read_body(request, _MAX_FORM_BYTES) or b""
    return parse_qs(body.decode(errors="replace")).get("key", [""])[0].strip()


def _redirect(request: Request, path: str) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}{path}", 303)


def _form(request: Request, problem: str = "", status: int = 200) -> Response:
    nonce = secrets.token_urlsafe(16)
    html = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        style=_STYLE.read_text(encoding="utf-8"),
        nonce=nonce,
        icon=ICON_LINK,
        action=f"{request.scope.get('root_path', '')}/login",
        problem=f'<p class="error-text" role="alert" id="problem">{escape(problem)}</p>'
        if problem
        else "",
        invalid=' aria-invalid="true" aria-describedby="problem"' if problem else "",
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(html, status, {"content-security-policy": policy})
