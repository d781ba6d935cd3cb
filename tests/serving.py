"""Test servers in a thread of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer
from threading import Thread
from typing import TypeVar

AnyServer = TypeVar("AnyServer", bound=BaseServer)


@contextmanager
def serving(server: AnyServer) -> Iterator[AnyServer]:
    """Serve requests within the block."""
    with server:
        thread = Thread(target=server.serve_forever, args=(0.01,), name="test server")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
