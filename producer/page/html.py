"""Gradio's HTML responses: content security policy, script nonce, caching."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Final
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COMMON: Final = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'self'; "
    "frame-ancestors 'none'"
)
#: Policy with inline styles, which Gradio's interface sets on elements.
POLICY: Final = f"{_COMMON}; script-src 'none'"

#: Gradio's own previews for social networks, and its web app manifest.
_GRADIO_TAGS: Final = re.compile(
    rb'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>|<link rel="manifest"[^>]*>'
)

#: An inline icon: browsers request /favicon.ico for a page without an icon.
_ICON: Final = quote(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="7" fill="#2f5bd0"/><circle cx="12" cy="12" r="6" '
    'fill="#fff"/><path d="M20 13l7 12H13z" fill="#ffd21f"/></svg>'
)
ICON_LINK: Final = f'<link rel="icon" href="data:image/svg+xml,{_ICON}">'

#: The page's own scripts, which run before Gradio's.
_SCRIPTS: Final = "".join(
    f"<script>{Path(__file__).with_name(name).read_text(encoding='utf-8')}</script>"
    for name in ("visit.js", "answers.js", "clipboard.js")
)


def add_policy(send: Send) -> Send:
    """Return a `send` that adds the content security policy to responses without one."""

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).setdefault("content-security-policy", POLICY)
        await send(message)

    return add


def cache_in_browser(app: ASGIApp) -> ASGIApp:
    """Wrap `app` so that browsers cache its responses; for files with a hash in their names."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def add_header(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                MutableHeaders(scope=message)["cache-control"] = "private, max-age=86400"
            await send(message)

        await app(scope, receive, add_header)

    return answer


def rewrite_page(app: ASGIApp) -> ASGIApp:
    """Wrap `app` so that the scripts of its HTML have a nonce; browsers run no other scripts."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        start: Message = {}

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                html = _rewrite(start, bytes(body))
                await send(start)
                await send({"type": "http.response.body", "body": html})

        await app(uncompressed(scope), receive, collect)

    return answer


def uncompressed(scope: Scope) -> Scope:
    """Return the scope without Accept-Encoding, so that the response can be read in transit."""
    headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
    return {**scope, "headers": headers}


def _rewrite(start: Message, html: bytes) -> bytes:
    nonce = secrets.token_urlsafe(16)
    head = f"{ICON_LINK}{_SCRIPTS}</head>"
    html = _GRADIO_TAGS.sub(b"", html).replace(b"</head>", head.encode(), 1)
    html = html.replace(b"<script", f'<script nonce="{nonce}"'.encode())
    headers = MutableHeaders(scope=start)
    headers["content-length"] = str(len(html))
    headers["content-security-policy"] = f"{_COMMON}; script-src 'self' 'nonce-{nonce}'"
    return html
