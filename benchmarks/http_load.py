"""Requests as cheap as Python makes them: a load generator that leaves the processor to the server.

HTTP/1.1 with one request at a time on each of many connections that are kept open. It reads what
the gateway's server writes, bodies with a length and bodies in chunks, and nothing beyond that.
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
#: Where servers end an event of a stream.
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n")


@dataclass(frozen=True, slots=True)
class Site:
    """Where requests go, and with which key."""

    address: str
    key: str

    def request(self, method: str, path: str, body: bytes = b"", more: str = "") -> bytes:
        """The bytes of a request; `more` are lines of the head, each with its end."""
        host = urlsplit(self.address).netloc
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {self.key}\r\n"
        if body:
            more += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}{more}\r\n".encode() + body

    async def connect(self) -> Connection:
        """A connection of its own."""
        where = urlsplit(self.address)
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(
            Connection, where.hostname or "", where.port or 80
        )
        return protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; the head of an answer in chunks comes alone."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One request after the other."""

    def __init__(self) -> None:
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False

    async def ask(self, request: bytes) -> Answer:
        """Send a whole request and wait for the whole answer."""
        assert self._transport is not None
        self._transport.write(request)
        return await self.answer()

    async def answer(self) -> Answer:
        """The next answer; ConnectionError where the server hangs up before its end."""
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            await self._more()
        head, status = self._data[: end + 2], int(self._data[9:12])
        end += 4
        if (length := _LENGTH.search(head)) is None:
            self._data = self._data[end:]
            if _CHUNKED.search(head) or status == 204:
                return Answer(status, b"")
            raise ConnectionError(f"an answer without a length: {head!r}")
        whole = end + int(length[1])
        while len(self._data) < whole:
            await self._more()
        body, self._data = self._data[end:whole], self._data[whole:]
        return Answer(status, body)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body of an answer in chunks, as it comes."""
        ended = False
        while not ended:
            body, self._data, ended = _unchunked(self._data)
            if body:
                yield body
            elif not ended:
                await self._more()

    async def events(self) -> AsyncIterator[dict[str, str]]:
        """Fields of each event of a stream; comments are left out."""
        data = b""
        async for chunk in self.chunks():
            *events, data = _EVENT_END.split(data + chunk)
            for event in events:
                lines = (line.partition(": ") for line in event.decode().splitlines())
                if fields := {name: value for name, _, value in lines if name}:
                    yield fields

    def write(self, data: bytes) -> None:
        """Send a part of a body in chunks; empty is its end."""
        assert self._transport is not None
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def begin(self, head: bytes) -> None:
        """Send the head of a request whose body comes in chunks."""
        assert self._transport is not None
        self._transport.write(head)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    async def _more(self) -> None:
        if self._closed:
            raise ConnectionError(f"the server hung up; of its answer there is {self._data!r:.200}")
        self._waiting = asyncio.get_running_loop().create_future()
        await self._waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none by inheritance.
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


def _unchunked(data: bytes) -> tuple[bytes, bytes, bool]:
    """What whole chunks hold, the rest, and whether the last chunk was among them."""
    parts, place = [], 0
    while (end := data.find(b"\r\n", place)) >= 0:
        size = int(data[place:end], 16)
        if len(data) < end + size + 4:
            break
        parts.append(data[end + 2 : end + 2 + size])
        place = end + size + 4
        if not size:
            return b"".join(parts), data[place:], True
    return b"".join(parts), data[place:], False


@dataclass(slots=True)
class Load:
    """What a number of requests took."""

    seconds: float = 0.0
    #: Processor time of the load generator.
    cpu_s: float = 0.0
    #: Seconds from each request to its answer.
    taken: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.taken) / self.seconds


async def ask_all(site: Site, requests: Iterable[bytes], connections: int) -> Load:
    """All of these requests, on so many connections; the answers in any order."""
    load, left = Load(), iter(requests)
    open_now = [await site.connect() for _ in range(connections)]
    began, cpu_began = time.perf_counter(), time.process_time()
    await asyncio.gather(*(_ask_on(connection, left, load) for connection in open_now))
    load.seconds = time.perf_counter() - began
    load.cpu_s = time.process_time() - cpu_began
    for connection in open_now:
        connection.close()
    return load


async def _ask_on(connection: Connection, requests: Iterator[bytes], load: Load) -> None:
    for request in requests:
        sent = time.perf_counter()
        answer = await connection.ask(request)
        load.taken.append(time.perf_counter() - sent)
        load.answers.append(answer)
