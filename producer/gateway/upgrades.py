"""Offers to speak another protocol, which HTTP lets a server pass over."""

from __future__ import annotations

from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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
