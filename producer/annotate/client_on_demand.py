"""The client of a run, which is opened when the first request needs it.

It may start a Redis and a worker, which takes long, and a run over unchanged images needs neither.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from ..client import Client

#: Seconds between two looks whether the run was stopped.
_LOOK_S: Final = 0.1


class ClientOnDemand:
    """A client that the collecting thread opens, so that Ctrl-C ends whatever it starts."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._needed = threading.Event()
        self._ready = threading.Event()

    def get(self) -> Client:
        """Return the client, which is opened if it is not; for the collecting thread."""
        if self._client is None:
            self._client = self._connect()
            self._ready.set()
        return self._client

    def open_if_needed(self) -> float:
        """Open the client if `wait` was called; return the seconds that it took."""
        if self._client is not None or not self._needed.is_set():
            return 0.0
        started = time.monotonic()
        self.get()
        return time.monotonic() - started

    def wait(self, is_stopped: Callable[[], bool]) -> Client:
        """Return the client once the other thread has opened it; raises InterruptedError."""
        self._needed.set()
        while not self._ready.wait(_LOOK_S):
            if is_stopped():
                raise InterruptedError
        return self.get()
