"""A server that nobody is to reach: it counts connections, not only requests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BODY = b"the canary"
ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Canary:
    """Listens on all addresses of this machine at one port, and where else it is told to."""

    def __init__(self) -> None:
        #: The ends of all connections, each with the listener's.
        self._seen: list[tuple[int, int]] = []
        self._changed = threading.Condition()
        self._listeners: list[socket.socket] = []
        # On all addresses, of both kinds of IP where there are both.
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        self._listen(socket.create_server(("", 0), family=family, dualstack_ipv6=both))
        self.port: int = self._listeners[0].getsockname()[1]
        #: Whether `::1` is one of its addresses.
        self.ipv6 = both

    def listen(self, host: str, port: int) -> None:
        """One more place; an address of IPv6 only where there is IPv6."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listen(socket.create_server((host, port), family=family))

    def visits(self) -> int:
        """Connections since the last call, of which none is still waiting to be accepted."""
        for listener in self._listeners:
            self._settle(listener)
        with self._changed:
            count = len(self._seen)
            self._seen.clear()
        return count

    def close(self) -> None:
        for listener in self._listeners:
            # Wakes who waits in accept().
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _listen(self, listener: socket.socket) -> None:
        self._listeners.append(listener)
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, peer = listener.accept()
                with connection, suppress(OSError):
                    self._note((peer[1], connection.getsockname()[1]))
                    connection.settimeout(5)
                    if connection.recv(1 << 16):
                        connection.sendall(ANSWER)

    def _note(self, visit: tuple[int, int]) -> None:
        with self._changed:
            self._seen.append(visit)
            self._changed.notify_all()

    def _settle(self, listener: socket.socket) -> None:
        """Connections are accepted in their order: when ours is, all before it have been."""
        host, port = listener.getsockname()[:2]
        host = {"::": "::1", "0.0.0.0": "127.0.0.1"}.get(host, host)
        with socket.create_connection((host, port), timeout=20) as probe:
            visit = (probe.getsockname()[1], port)
            with self._changed:
                assert self._changed.wait_for(lambda: visit in self._seen, timeout=20)
                self._seen.remove(visit)


@contextmanager
def running_canary() -> Iterator[Canary]:
    canary = Canary()
    try:
        yield canary
    finally:
        canary.close()
