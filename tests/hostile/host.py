"""An image host that misbehaves in one way for each path; a plain socket, to break any rule."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tests.hostile.specimen import ANSWERED, INVALID, TOO_LARGE

UNREACHABLE: Final = "image_unreachable"
#: Seconds between two bytes of a drip.
DRIP_S: Final = 0.2

#: The outcome of each path.
PATHS: Final = {
    "good": ANSWERED,
    "wrong-type": ANSWERED,
    "chunked": ANSWERED,
    "endless": TOO_LARGE,
    "zeros": TOO_LARGE,
    "claims-too-little": INVALID,
    "page": INVALID,
    "nothing": INVALID,
    # An encoding that the request excludes is not decompressed.
    "gzip-bomb": UNREACHABLE,
    "drip": UNREACHABLE,
    "stall": UNREACHABLE,
    "silence": UNREACHABLE,
    "claims-too-much": UNREACHABLE,
    "reset": UNREACHABLE,
    "loop": UNREACHABLE,
    "to-and-fro": UNREACHABLE,
    "missing": UNREACHABLE,
    "broken": UNREACHABLE,
    "chunked-garbage": UNREACHABLE,
    "endless-headers": UNREACHABLE,
    "status-garbage": UNREACHABLE,
    "no-http": UNREACHABLE,
}


class Host:
    """A host that serves one image in all these ways."""

    def __init__(self, picture: bytes) -> None:
        self._picture = picture
        self._bomb = gzip.compress(bytes(100_000_000), 1)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._stopping = threading.Event()

    def address(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/{path}"

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        """Stop accepting, and abandon waiting connections."""
        self._stopping.set()
        # Closing alone would not wake the thread in accept().
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        # The client may close the connection early.
        with connection, suppress(OSError, IndexError):
            request = connection.recv(65_536).decode("latin-1")
            path = request.split()[1].lstrip("/")
            for piece in self._pieces(path, connection):
                if self._stopping.is_set():
                    return
                connection.sendall(piece)

    def _pieces(self, path: str, connection: socket.socket) -> Iterator[bytes]:
        picture = self._picture
        page = b"<!doctype html><h1>Something is wrong</h1>"
        answers: dict[str, Callable[[], bytes]] = {
            "good": lambda: _answer(picture),
            "wrong-type": lambda: _answer(picture, "Content-Type: text/html"),
            "chunked": lambda: _chunked(b"%x\r\n%s\r\n0\r\n\r\n" % (len(picture), picture)),
            "chunked-garbage": lambda: _chunked(b"zz\r\n" + picture + b"\r\n-5\r\n"),
            "gzip-bomb": lambda: _answer(self._bomb, "Content-Encoding: gzip"),
            "claims-too-little": lambda: _answer(picture, length=300),
            "claims-too-much": lambda: _answer(picture, length=len(picture) + 1000),
            "page": lambda: _answer(page, "Content-Type: image/jpeg"),
            "nothing": lambda: _answer(b""),
            "loop": lambda: _answer(b"", "Location: /loop", status="302 Found"),
            "to-and-fro": lambda: _answer(b"", "Location: /fro-and-to", status="307 There"),
            "fro-and-to": lambda: _answer(b"", "Location: /to-and-fro", status="307 Here"),
            "broken": lambda: _answer(page, status="500 Broken"),
            "status-garbage": lambda: b"HTTP/9.9 banana\r\n\r\n" + picture,
            "no-http": lambda: b"220 mail.example ESMTP\r\n" * 1000,
        }
        if path in answers:
            yield answers[path]()
        elif path in ("endless", "zeros", "endless-headers", "drip", "stall", "reset", "silence"):
            yield from self._long(path, connection)
        else:
            yield _answer(page, status="404 Not Found")

    def _long(self, path: str, connection: socket.socket) -> Iterator[bytes]:
        if path == "endless":
            yield b"HTTP/1.1 200 OK\r\n\r\n" + self._picture
            while True:
                yield bytes(65_536)
        elif path == "zeros":
            yield b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"
            for _ in range(100):
                yield bytes(1_000_000)
        elif path == "endless-headers":
            yield b"HTTP/1.1 200 OK\r\n"
            while True:
                yield b"X-More: " + b"x" * 1000 + b"\r\n"
        elif path == "drip":
            yield _answer(b"", length=len(self._picture))
            for byte in self._picture:
                self._stopping.wait(DRIP_S)
                yield bytes([byte])
        elif path == "reset":
            yield _answer(self._picture[:300], length=len(self._picture))
            # Closing it now sends a reset instead of an end of file.
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            yield _answer(b"", length=5000) if path == "stall" else b""
            self._stopping.wait()


def _answer(body: bytes, header: str = "", *, status: str = "200 OK", length: int = -1) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length < 0 else length}"]
    lines += ["Connection: close", *([header] if header else []), "", ""]
    return "\r\n".join(lines).encode() + body


def _chunked(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + body


@contextmanager
def running_host(picture: bytes) -> Iterator[Host]:
    """Run a host of this image."""
    host = Host(picture)
    thread = threading.Thread(target=host.run, name="host", daemon=True)
    thread.start()
    try:
        yield host
    finally:
        host.stop()
        thread.join()
