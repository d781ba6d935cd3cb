"""A TCP proxy with faults: reset, partition, freeze at a byte sequence, and answers of its own."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

PIECE_BYTES: Final = 1 << 16
#: Maximum seconds of a call in the proxy's own thread.
CALL_S: Final = 30.0
#: The beginning of a command of Redis.
COMMAND: Final = re.compile(rb"(?:^|\r\n)\*\d+\r\n\$")
#: The SO_LINGER value with which closing sends a reset.
RESET: Final = struct.pack("ii", 1, 0)


class _Connection:
    """Both sides of one connection."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.writers = [client]
        #: While cleared, its client's bytes stay here.
        self.passes = asyncio.Event()
        self.passes.set()

    def reset(self) -> None:
        for writer in self.writers:
            endpoint: socket.socket | None = writer.get_extra_info("socket")
            if endpoint is not None:
                with suppress(OSError):
                    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        # Waiting bytes have no destination, and their tasks end.
        self.passes.set()

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


class Proxy:
    """A proxy from clients to one port of this machine, in a thread of its own."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        #: Set once a connection is frozen.
        self.froze = threading.Event()
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._pattern: bytes | None = None
        self._reply: bytes | None = None

    @property
    def connections(self) -> int:
        """The number of open connections of clients."""
        return len(self._connections)

    @property
    def url(self) -> str:
        """The URL of Redis through this proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Listen on a free port."""
        self._thread.start()
        self._do(self._listen)

    def stop(self) -> None:
        """Reset all connections, and stop."""
        self._do(self._shut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S)
        self._loop.close()

    def partition(self) -> None:
        """Pass nothing from now on, not even an end of file; still accept connections."""
        self._do(self._open.clear)

    def heal(self) -> None:
        """Pass everything again, delayed bytes first."""
        self._do(self._open.set)

    def reset_all(self) -> None:
        """Reset every connection on both sides; delayed bytes are lost."""
        self._do(self._reset_all)

    def freeze_when(self, pattern: bytes | None) -> None:
        """Freeze the next connection whose client sends these bytes, before they pass."""
        self.froze.clear()
        self._do(lambda: setattr(self, "_pattern", pattern))

    def answer(self, reply: bytes | None) -> None:
        """Answer each command with this, and pass none; None: pass commands again."""
        self._do(lambda: setattr(self, "_reply", reply))

    def _do(self, act: Callable[[], Any]) -> None:
        """Run a function in the proxy's thread, and wait for it."""

        async def run() -> None:
            outcome = act()
            if asyncio.iscoroutine(outcome):
                await outcome

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(CALL_S)

    async def _listen(self) -> None:
        self._open.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reset_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reset_all(self) -> None:
        for connection in self._connections:
            connection.reset()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        connection = _Connection(writer)
        self._connections.add(connection)
        try:
            await self._open.wait()
            back, forth = await asyncio.open_connection("127.0.0.1", self._target_port)
            connection.writers.append(forth)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, forth, connection.passes, writer))
                pumps.create_task(self._pump(back, writer, connection.passes))
        except* OSError:
            # One side is gone: reset the other as soon as the partition heals.
            await self._open.wait()
            connection.reset()
        finally:
            connection.close()
            self._connections.discard(connection)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        passes: asyncio.Event,
        client: asyncio.StreamWriter | None = None,
    ) -> None:
        """Pass data; `client` is the origin of commands, and None for answers."""
        last = b""
        while data := await source.read(PIECE_BYTES):
            if client is not None and self._reply is not None:
                client.write(self._reply * len(COMMAND.findall(data)))
                continue
            if client is not None:
                # The end of a piece may split the pattern.
                self._look_for_pattern(last + data, passes)
                last = data[-64:]
                await passes.wait()
            await self._open.wait()
            sink.write(data)
            await sink.drain()
        await self._open.wait()
        if not sink.is_closing():
            sink.write_eof()

    def _look_for_pattern(self, data: bytes, passes: asyncio.Event) -> None:
        if self._pattern is not None and self._pattern in data:
            self._pattern = None
            passes.clear()
            self.froze.set()


@contextmanager
def running_proxy(target_port: int) -> Iterator[Proxy]:
    """Run a proxy to a port of this machine."""
    proxy = Proxy(target_port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
