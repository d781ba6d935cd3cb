"""The server under the application: uvicorn, with bounds of its own."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import Final

import uvicorn
from fastapi import FastAPI

from ..errors import InvalidInput
from .http_protocol import BoundedProtocol
from .settings import GatewaySettings
from .state import Gateway

#: Seconds that a connection is kept without a request. Longer than load balancers keep theirs,
#: who would else send a request into one that is just being closed.
KEEP_ALIVE_S: Final = 75
#: Seconds that SIGTERM leaves to answer what was asked.
GRACE_S: Final = 10
#: Connections at once; more are told 503.
MAX_CONNECTIONS: Final = 4096
#: Seconds for which a thread may keep the event loop from going on; Python's own are ten times as
#: many, and an upload that is being parsed takes all of them again and again.
SWITCH_S: Final = 0.0005


class Server(uvicorn.Server):
    """Says when it takes requests, and tells streams to end when it is to end itself."""

    def __init__(self, app: FastAPI, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                # uvicorn believes a proxy on this machine unasked: so would anybody on it be.
                proxy_headers="FORWARDED_ALLOW_IPS" in os.environ,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._gateway: Gateway = app.state.gateway
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        sys.setswitchinterval(SWITCH_S)
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.stopping.set()
        await super().shutdown(sockets)


def listen(settings: GatewaySettings) -> socket.socket:
    """The socket that it listens on; raises InvalidInput."""
    host, port = settings.gateway_host, settings.gateway_port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(2048)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise InvalidInput(
            f"BLIPLINE_GATEWAY_HOST={host!r}, BLIPLINE_GATEWAY_PORT={port}: cannot listen there: "
            f"{error.strerror or error}"
        ) from None
    return listening


def address_of(listening: socket.socket) -> str:
    """Where it is reached."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
