"""Gateways in this process: they start in a tenth of the time of a process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from producer.gateway.server import Server, listen, url_of
from producer.gateway.settings import GatewaySettings


@contextmanager
def running_app(app: FastAPI) -> Iterator[str]:
    """Run an app under the real server, in a thread; yield its URL."""
    ready = threading.Event()
    listening = listen(GatewaySettings.load(gateway_port=0))
    server = Server(app, ready.set)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        assert ready.wait(60)
        yield url_of(listening)
    finally:
        server.should_exit = True
        thread.join()
