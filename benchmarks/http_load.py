"""An HTTP load generator with little processor time of its own.

HTTP/1.1 with one request at a time on each of many keep-alive connections. It reads what the
gateway's server sends, bodies with a length and chunked bodies, and nothing beyond that.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import urlsplit

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
#: End of a server-sent event.
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n")


@dataclass(frozen=True, slots=True)
class Site:
    """Address and API key of a gateway."""

    address: str
    key: str

    def request(self, method: str, path: str, body: bytes = b"", more: str = "") -> bytes:
        """Return the bytes of a request; `more` are further header lines, each with its CRLF."""
        host = urlsplit(self.address).netloc
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {self.key}\r\n"
        if body:
            more += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}{more}\r\n".encode() + body

    async def connect(self) -> Connection:
        """Open a connection."""
        url = urlsplit(self.address)
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(Connection, url.hostname or "", url.port or 80)
        return protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; for a chunked one, only its head."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """A connection with one request at a time."""

    def __init__(self) -> None:
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for the response."""
        assert self._transport is not None
        self._transport.write(request)
        return await self.answer()

    async def answer(self) -> Answer:
        """Read the next response. Raises ConnectionError if the server closes early."""
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            await self._more()
        head, status = self._data[: end + 2], int(self._data[9:12])
        end += 4
        if (length := _LENGTH.search(head)) is None:
            self._data = self._data[end:]
            if _CHUNKED.search(head) or status == 204:
                return Answer(status, b"")
            raise ConnectionError(f"a response without a length: {head!r}")
        whole = end + int(length[1])
        while len(self._data) < whole:
            await self._more()
        body, self._data = self._data[end:whole], self._data[whole:]
        return Answer(status, body)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body of a chunked response as it arrives."""
        ended = False
        while not ended:
            body, self._data, ended = _parse_chunks(self._data)
            if body:
                yield body
            elif not ended:
                await self._more()

    async def events(self) -> AsyncIterator[dict[str, str]]:
        """Yield the fields of each server-sent event, without comments."""
        data = b""
        async for chunk in self.chunks():
            *events, data = _EVENT_END.split(data + chunk)
            for event in events:
                lines = (line.partition(": ") for line in event.decode().splitlines())
                if fields := {name: value for name, _, value in lines if name}:
                    yield fields

    def write(self, data: bytes) -> None:
        """Send a chunk of a body; an empty one ends it."""
        assert self._transport is not None
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def begin(self, head: bytes) -> None:
        """Send the head of a request with a chunked body."""
        assert self._transport is not None
        self._transport.write(head)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    async def _more(self) -> None:
        if self._closed:
            raise ConnectionError(f"the server closed the connection after {self._data!r:.200}")
        self._waiting = asyncio.get_running_loop().create_future()
        await self._waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is no subclass.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _parse_chunks(data: bytes) -> tuple[bytes, bytes, bool]:
    """Return the content of complete chunks, the rest, and whether the last chunk was included."""
    parts, start = [], 0
    while (end := data.find(b"\r\n", start)) >= 0:
        size = int(data[start:end], 16)
        if len(data) < end + size + 4:
            break
        parts.append(data[end + 2 : end + 2 + size])
        start = end + size + 4
        if not size:
            return b"".join(parts), data[start:], True
    return b"".join(parts), data[start:], False


@dataclass(slots=True)
class Load:
    """Latencies and responses of a number of requests."""

    seconds: float = 0.0
    #: Processor time of the load generator.
    cpu_s: float = 0.0
    #: Seconds from each request to its response.
    latencies: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Responses per second."""
        return len(self.latencies) / self.seconds


async def ask_all(site: Site, requests: Iterable[bytes], connections: int) -> Load:
    """Send all requests on some connections; the responses come in any order."""
    load, queue = Load(), iter(requests)
    pool = [await site.connect() for _ in range(connections)]
    started, cpu_started = time.perf_counter(), time.process_time()
    await asyncio.gather(*(_ask_on(connection, queue, load) for connection in pool))
    load.seconds = time.perf_counter() - started
    load.cpu_s = time.process_time() - cpu_started
    for connection in pool:
        connection.close()
    return load


async def _ask_on(connection: Connection, requests: Iterator[bytes], load: Load) -> None:
    for request in requests:
        sent = time.perf_counter()
        answer = await connection.ask(request)
        load.latencies.append(time.perf_counter() - sent)
        load.answers.append(answer)
