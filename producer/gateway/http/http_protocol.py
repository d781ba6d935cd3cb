"""HTTP/1.1 protocol of the server: size limits for heads and trailers, timeouts for slow
connections, and no protocol upgrades."""

from __future__ import annotations

import asyncio
from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Maximum bytes of a head, or of any other input without a byte of a body.
MAX_HEAD_BYTES: Final = 64 * 1024

_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)

#: Paths that are served above the limit of connections, so that no client can make the process look
#: dead to its supervisor.
HEALTH_PATHS: Final = (b"/healthz", b"/readyz")

_INVALID: Final = "Invalid HTTP request received."

#: Headers that offer an upgrade; each is also a token of `Connection`.
_UPGRADE_HEADERS: Final = (b"upgrade", b"http2-settings")


class HostError(Exception):
    """The request has no `Host`, or several: RFC 9112 requires a 400."""


class UpgradeIgnoringProtocol(HttpToolsProtocol):
    """A protocol that ignores offers of a protocol upgrade.

    Java's HTTP clients offer HTTP/2 (h2c) with every request. uvicorn also answers these without an
    upgrade, but its parser treats their bodies as data of the other protocol.
    """

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self._feed(memoryview(data))
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.send_400_response(str(cause) if isinstance(cause, HostError) else _INVALID)

    def on_headers_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _feed(self, data: memoryview) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # The parser has read the head and would read no further.
                data = data[upgrade.args[0] :]
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(head)

    def _head_without_upgrade(self) -> bytes:
        method = self.parser.get_method()
        if method == b"CONNECT":
            # CONNECT demands a tunnel, so the offer cannot be ignored.
            raise httptools.HttpParserInvalidMethodError
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                tokens = (token.strip() for token in value.split(b","))
                value = b", ".join(
                    token for token in tokens if token.lower() not in _UPGRADE_HEADERS
                )
            if name not in _UPGRADE_HEADERS and (value or name != b"connection"):
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])


class BoundedProtocol(UpgradeIgnoringProtocol):
    """A protocol with limits: it closes connections with slow or large heads, and slow readers.

    uvicorn itself waits for them without a limit and buffers their input.
    """

    #: Timeout for the head of a request, from the opening of the connection or its first byte.
    head_s = 20.0
    #: Timeout for a client to read a response that exceeds the write buffer.
    send_s = 60.0
    #: Timeout for the rest of a request that was answered before it was read.
    rest_s = 5.0

    _read_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    #: Bytes since the last progress: the end of a head, or a part of a body.
    _idle_bytes = 0
    #: True from the end of a request's head to the end of its message.
    _is_open = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_read_timer(self.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_read_timer()
        self._stop_write_timer()
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
        self._start_read_timer(self.head_s)

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are ignored: the request has been checked by its head.
        if not self._is_open:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_read_timer()
        self._idle_bytes, self._is_open = 0, True
        self._check_host()
        limit = self.limit_concurrency
        if self.url.partition(b"?")[0] in HEALTH_PATHS:
            self.limit_concurrency = None
        try:
            super().on_headers_complete()
        finally:
            self.limit_concurrency = limit

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_open = False
        super().on_message_complete()
        if self._read_timer is not None:
            # Replaces the timer for the rest, and the keep-alive timer that uvicorn has lost.
            self._start_read_timer(self.timeout_keep_alive)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_open and self._is_answered():
            self._start_read_timer(self.rest_s)

    def pause_writing(self) -> None:
        super().pause_writing()
        # `close` would first wait until the client has read everything.
        self._write_timer = self.loop.call_later(self.send_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()

    def _check_host(self) -> None:
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            raise HostError(f"An HTTP/1.1 request needs one Host header, not {hosts}.")

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start_read_timer(self, seconds: float) -> None:
        self._stop_read_timer()
        self._read_timer = self.loop.call_later(seconds, self.transport.close)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
