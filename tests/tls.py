"""A TLS proxy in front of a plain server, with test certificates."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trustme


@contextmanager
def running_tls(port: int, directory: Path) -> Iterator[tuple[int, Path]]:
    """Terminate TLS for a port of 127.0.0.1.

    Yields the TLS port, and the file of the authority that signed the certificate for `localhost`
    and 127.0.0.1.
    """
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    file = directory / f"authority-{port}.pem"
    authority.cert_pem.write_to_path(file)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="tls", daemon=True)
    thread.start()
    front = _Front(port)
    server = asyncio.run_coroutine_threadsafe(front.start(context), loop).result(10)
    try:
        yield server.sockets[0].getsockname()[1], file
    finally:
        asyncio.run_coroutine_threadsafe(front.stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class _Front:
    """The proxy: it copies bytes both ways for any number of connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, context: ssl.SSLContext) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)

    async def stop(self, server: asyncio.Server) -> None:
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        except (asyncio.CancelledError, OSError):
            # The test is over, or one side has closed the connection.
            pass
        finally:
            self._open.discard(task)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    finally:
        target.close()
        with suppress(OSError, asyncio.CancelledError):
            await target.wait_closed()
