"""The HTML that Gradio writes, and the headers under which it works."""

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
#: Gradio's interface sets styles on elements.
POLICY: Final = f"{_COMMON}; script-src 'none'"

#: What Gradio says of itself to others, and a manifest that is not ours.
_FOREIGN: Final = re.compile(
    rb'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>|<link rel="manifest"[^>]*>'
)

#: Without one, browsers ask for /favicon.ico.
_ICON: Final = quote(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="7" fill="#2f5bd0"/><circle cx="12" cy="12" r="6" '
    'fill="#fff"/><path d="M20 13l7 12H13z" fill="#ffd21f"/></svg>'
)
ICON_LINK: Final = f'<link rel="icon" href="data:image/svg+xml,{_ICON}">'

_SCRIPT: Final = Path(__file__).with_name("answers.js").read_text(encoding="utf-8")


def protected(send: Send) -> Send:
    """Adds the policy under which Gradio works, unless there is one that says more."""

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).setdefault("content-security-policy", POLICY)
        await send(message)

    return add


def cached(app: ASGIApp) -> ASGIApp:
    """Files whose names tell what is in them: browsers may keep them."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                MutableHeaders(scope=message)["cache-control"] = "private, max-age=86400"
            await send(message)

        await app(scope, receive, keep)

    return answer


def rewritten(app: ASGIApp) -> ASGIApp:
    """The page itself: its scripts are named by a nonce, so no other runs."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        start: Message = {}

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                whole = _finish(start, bytes(body))
                await send(start)
                await send({"type": "http.response.body", "body": whole})

        await app(uncompressed(scope), receive, collect)

    return answer


def uncompressed(scope: Scope) -> Scope:
    """The same request, whose answer can be read on its way."""
    kept = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
    return {**scope, "headers": kept}


def _finish(start: Message, html: bytes) -> bytes:
    nonce = secrets.token_urlsafe(16)
    head = f"{ICON_LINK}<script>{_SCRIPT}</script></head>"
    html = _FOREIGN.sub(b"", html).replace(b"</head>", head.encode(), 1)
    html = html.replace(b"<script", f'<script nonce="{nonce}"'.encode())
    headers = MutableHeaders(scope=start)
    headers["content-length"] = str(len(html))
    headers["content-security-policy"] = f"{_COMMON}; script-src 'self' 'nonce-{nonce}'"
    return html
