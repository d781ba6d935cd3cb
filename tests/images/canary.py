"""A server that the SSRF guard must keep unreachable; it counts connections, not only requests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BODY = b"the canary"
ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Canary:
    """A listener on one port of all addresses of this machine, and on further ones."""

    def __init__(self) -> None:
        #: The client port and the listener port of all connections.
        self._connections: list[tuple[int, int]] = []
        self._changed = threading.Condition()
        self._listeners: list[socket.socket] = []
        # On all addresses, of IPv4 and of IPv6 if there is IPv6.
        dual_stack = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual_stack else socket.AF_INET
        self._listen(socket.create_server(("", 0), family=family, dualstack_ipv6=dual_stack))
        self.port: int = self._listeners[0].getsockname()[1]
        #: True if `::1` is one of its addresses.
        self.ipv6 = dual_stack

    def listen(self, host: str, port: int) -> None:
        """Listen on a further address; IPv6 requires a machine with IPv6."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listen(socket.create_server((host, port), family=family))

    def visits(self) -> int:
        """Return the number of connections since the last call, pending ones included."""
        for listener in self._listeners:
            self._settle(listener)
        with self._changed:
            count = len(self._connections)
            self._connections.clear()
        return count

    def close(self) -> None:
        for listener in self._listeners:
            # Wakes the thread in accept().
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
                    self._record((peer[1], connection.getsockname()[1]))
                    connection.settimeout(5)
                    if connection.recv(1 << 16):
                        connection.sendall(ANSWER)

    def _record(self, visit: tuple[int, int]) -> None:
        with self._changed:
            self._connections.append(visit)
            self._changed.notify_all()

    def _settle(self, listener: socket.socket) -> None:
        """Wait for all pending connections: a probe is accepted after all before it."""
        host, port = listener.getsockname()[:2]
        host = {"::": "::1", "0.0.0.0": "127.0.0.1"}.get(host, host)
        with socket.create_connection((host, port), timeout=20) as probe:
            visit = (probe.getsockname()[1], port)
            with self._changed:
                assert self._changed.wait_for(lambda: visit in self._connections, timeout=20)
                self._connections.remove(visit)


@contextmanager
def running_canary() -> Iterator[Canary]:
    canary = Canary()
    try:
        yield canary
    finally:
        canary.close()
