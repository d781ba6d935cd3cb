"""How large a request may be."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import Problem
from .settings import PAGE, GatewaySettings

#: Bytes around an image: the rest of a job, or the frame of a form.
_AROUND: Final = 2**20
#: Where bodies come in as streams.
_STREAMS: Final = "/v1/batches"


class BodyBounds:
    """Ends a request whose body is too large, before or while it is read (pure ASGI)."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._stream = settings.max_body_bytes
        # An image may come as base64, four characters for three bytes.
        self._other = settings.max_image_bytes * 4 // 3 + _AROUND

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The page has bounds of its own: several files are one upload there.
        if scope["type"] != "http" or scope["path"].startswith(f"{PAGE}/"):
            await self._app(scope, receive, send)
            return
        most = self._stream if scope["path"] == _STREAMS else self._other
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
