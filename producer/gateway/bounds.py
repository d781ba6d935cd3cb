"""How large a request may be."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import Problem
from .settings import GatewaySettings

_MIB: Final = 2**20
#: Bytes around an image: the rest of a job, or the frame of a form.
_AROUND: Final = _MIB
#: Where bodies come in as streams: batches, and the page's files, many in one form.
_STREAMS: Final = ("/v1/batches", "/ui/gradio_api/upload")
#: It has bounds of its own: several files are one upload there.
PAGE: Final = "/ui/"


class Bounds:
    """Ends a request whose body is too large, before or while it is read (pure ASGI)."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._stream = settings.gateway_max_body_mb * _MIB
        # An image may come as base64, four characters for three bytes.
        self._other = settings.gateway_max_image_mb * _MIB * 4 // 3 + _AROUND

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(PAGE):
            await self._app(scope, receive, send)
            return
        most = self._stream if scope["path"] in _STREAMS else self._other
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise _too_large(most)
        received = 0

        async def receive_on() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise _too_large(most)
            return message

        await self._app(scope, receive_on, send)


def _too_large(most: int) -> Problem:
    return Problem("body_too_large", f"The body has more than the {most:,} bytes that it may have")
