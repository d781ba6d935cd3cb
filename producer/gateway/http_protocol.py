"""What the server's HTTP protocol leaves open: how large what comes before and after a body may be,
and how long connections may take."""

from __future__ import annotations

import asyncio
from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes of a head at most, and of whatever else comes without a byte of a body.
MAX_HEAD_BYTES: Final = 64 * 1024

_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


#: What an offer is made with: headers, and words in `Connection`.
_OFFERS: Final = (b"upgrade", b"http2-settings")


class NoUpgrades(HttpToolsProtocol):
    """Answers each request as if it had offered nothing.

    Java's clients offer HTTP/2 (h2c) with all they send. uvicorn answers those, too, but its parser
    takes their bodies for the other protocol.
    """

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self._read(memoryview(data))
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def on_headers_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _read(self, rest: memoryview) -> None:
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offered:
                # The parser has read the head, and would read no more.
                rest = rest[offered.args[0] :]
                head = self._head_without_offers()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(head)

    def _head_without_offers(self) -> bytes:
        method = self.parser.get_method()
        if method == b"CONNECT":
            # That is no offer, but all that it asks for.
            raise httptools.HttpParserInvalidMethodError
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                words = (word.strip() for word in value.split(b","))
                value = b", ".join(word for word in words if word.lower() not in _OFFERS)
            if name not in _OFFERS and (value or name != b"connection"):
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])


class BoundedProtocol(NoUpgrades):
    """Ends connections that never get to the point; uvicorn alone waits, and keeps all they say.

    So it does with one who asks and takes nothing of the answer.
    """

    #: Seconds for a connection to send the head of a request, once it is open or has begun to.
    head_s = 20.0
    #: Seconds for a client to take what it has been sent, where that is too much to lie ready.
    send_s = 60.0

    #: Seconds for the rest of a request that was answered before it was read.
    rest_s = 5.0

    _waiting: asyncio.TimerHandle | None = None
    #: Bytes since the last that were of use: the end of a head, or a part of a body.
    _idle_bytes = 0
    #: Whether there is more to come of a request whose head was read.
    _is_open = False
    _untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait(self.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._taken()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._idle_bytes += len(data)
        super().data_received(data)
        if self._idle_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            if self._is_answered() and not self._is_open:
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_open = False
        self._wait(self.head_s)

    def on_header(self, name: bytes, value: bytes) -> None:
        # What comes after the body comes too late: the request has been judged by its head.
        if not self._is_open:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._idle_bytes, self._is_open = 0, True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_open = False
        super().on_message_complete()
        if self._waiting is not None:
            # For the rest; what uvicorn itself began to wait for when it had answered, is lost.
            self._wait(self.timeout_keep_alive)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_open and self._is_answered():
            self._wait(self.rest_s)

    def pause_writing(self) -> None:
        super().pause_writing()
        # Closing would wait for all to be taken first.
        self._untaken = self.loop.call_later(self.send_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taken()

    def _taken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
