"""A JSON array as the body of a batch: its elements as lines, in pieces of any size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from .problems import Problem

#: Bytes that matter outside and within a string.
_OUTSIDE: Final = re.compile(rb'["\[\]{},\r\n]')
_INSIDE: Final = re.compile(rb'["\\\r\n]')
_QUOTE, _BACKSLASH, _COMMA = b'"\\,'
#: White space before an array, and a byte order mark.
_BLANK: Final = b" \t\r\n\xef\xbb\xbf"
#: Blank lines in a piece.
_BLANK_LINES: Final = 1 << 16


def array_as_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines of a body; if it is an array, its elements as lines of JSON.

    Of the white space before the first line or element, only line breaks of the lines remain.
    An element that is no valid JSON becomes an invalid line. Raises Problem if the array does not
    end.
    """
    head, blank_lines = b"", 0
    for piece in pieces:
        head = piece.lstrip(_BLANK)
        blank_lines += piece.count(b"\n", 0, len(piece) - len(head))
        if head:
            break
    if head[:1] == b"[":
        yield from _convert(chain([head], pieces))
    else:
        # Errors name lines by their numbers in the body.
        for start in range(0, blank_lines, _BLANK_LINES):
            yield b"\n" * min(_BLANK_LINES, blank_lines - start)
        yield from chain([head], pieces)


def _convert(pieces: Iterable[bytes]) -> Iterator[bytes]:
    converter = _Converter()
    for piece in pieces:
        yield converter.feed(piece)
    if converter.depth or converter.is_in_string:
        raise Problem("bad_request", "The body is not a complete JSON array: it is truncated")


class _Converter:
    """A converter of an array that arrives in pieces."""

    def __init__(self) -> None:
        self.depth = 0
        self.is_in_string = False
        #: True if the next byte belongs to an escape sequence.
        self._is_escaped = False

    def feed(self, piece: bytes) -> bytes:
        """Return the lines of a piece."""
        lines, position = bytearray(), 0
        if self._is_escaped and piece:
            lines += _in_string(piece[:1])
            position, self._is_escaped = 1, False
        while match := (_INSIDE if self.is_in_string else _OUTSIDE).search(piece, position):
            lines += piece[position : match.start()]
            position = match.end()
            if not self.is_in_string:
                lines += self._convert(match[0])
            else:
                lines += _in_string(match[0])
                self.is_in_string = match[0][0] != _QUOTE
                if match[0][0] == _BACKSLASH:
                    lines += _in_string(piece[position : position + 1])
                    self._is_escaped = position == len(piece)
                    position += 1
        return bytes(lines + piece[position:])

    def _convert(self, byte: bytes) -> bytes:
        """Return the replacement of a byte outside of strings."""
        if byte[0] == _QUOTE:
            self.is_in_string = True
        elif byte in b"\r\n":
            return b" "
        elif byte in b"[{":
            self.depth += 1
            return byte if self.depth > 1 else b""
        elif byte in b"]}":
            self.depth -= 1
            if self.depth < 0:
                raise Problem("bad_request", "The body is not a JSON array: it has too many ]")
            return byte if self.depth > 0 else b""
        elif byte[0] == _COMMA and self.depth == 1:
            return b"\n"
        return byte


def _in_string(byte: bytes) -> bytes:
    """Return a byte of a string; a line break, invalid in JSON, must not end the line."""
    return b"\t" if byte in (b"\r", b"\n") else byte
