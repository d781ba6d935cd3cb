"""HTTP server of the gateway: uvicorn with connection limits and a graceful shutdown."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from ..errors import InvalidInput
from .http.http_protocol import BoundedProtocol
from .http.logs import LOGGER
from .settings import GatewaySettings
from .state import Gateway

#: Seconds for which an idle connection stays open. This exceeds the timeout of load balancers, so
#: they do not send a request on a connection that is being closed.
KEEP_ALIVE_S: Final = 75
#: Seconds after SIGTERM for requests in progress.
GRACE_S: Final = 10
#: Exit code after a second Ctrl-C, as shells report the signal.
EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
#: Maximum number of connections; further connections receive a 503.
MAX_CONNECTIONS: Final = 4096
#: Seconds after which a thread must release the GIL to the event loop. Python's default is ten
#: times as long, and a thread that parses an upload would use all of it repeatedly.
SWITCH_INTERVAL_S: Final = 0.0005


class Server(uvicorn.Server):
    """A uvicorn server that reports when it is ready, and ends streams when it shuts down."""

    def __init__(self, app: FastAPI, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                # uvicorn's default trusts a proxy on this machine, and therefore any local process.
                proxy_headers="FORWARDED_ALLOW_IPS" in os.environ,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._gateway: Gateway = app.state.gateway
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        _raise_file_limit()
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:
            # A second Ctrl-C. uvicorn would cancel the application, which logs a traceback.
            LOGGER.warning("interrupted again: requests in progress are cut off")
            os._exit(EXIT_INTERRUPTED)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.stopping.set()
        await super().shutdown(sockets)


def _raise_file_limit() -> None:
    """Allow MAX_CONNECTIONS: many systems limit a process to 1,024 open files by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = 2 * MAX_CONNECTIONS
    if hard != resource.RLIM_INFINITY:
        files = min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def listen(settings: GatewaySettings) -> socket.socket:
    """Open the listening socket; raises InvalidInput."""
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
            f"BLIPLINE_GATEWAY_HOST={host!r}, BLIPLINE_GATEWAY_PORT={port}: cannot listen: "
            f"{error.strerror or error}"
        ) from None
    return listening


def url_of(listening: socket.socket) -> str:
    """Return the base URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
