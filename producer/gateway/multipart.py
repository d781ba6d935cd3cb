"""A multipart form with a file in it, read as a stream: never on disk, never whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from .problems import Problem

#: The part that is the upload.
FILE: Final = "file"
#: Bytes of all the fields that come before it at most, and of all parts' headers.
MAX_FIELDS_BYTES: Final = 64 * 1024
#: Parts at most.
MAX_PARTS: Final = 32


class MultipartForm:
    """Fields first, then the file, then nothing more; what is wrong is a Problem."""

    def __init__(self, content_type: str) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise _wrong("its Content-Type names no boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_to_header_name,
                    "on_header_value": self._add_to_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _wrong(str(error)) from None
        #: What came before the file, by name.
        self.fields: dict[str, str] = {}
        self._fields_bytes = self._parts = 0
        self._found_file = self._ended = False
        self._name = ""
        self._header = (b"", b"")
        self._value = bytearray()
        #: Of the file, not yet handed over.
        self._data: list[bytes] = []

    async def read_fields(self, pieces: AsyncIterator[bytes]) -> None:
        """Read until the file begins."""
        async for piece in pieces:
            self._feed(piece)
            if self._found_file:
                return
        self._check_whole()

    def file(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The file's bytes, from where `read_fields` stopped; in the submission's thread."""
        yield from self._taken()
        for piece in pieces:
            self._feed(piece)
            yield from self._taken()
        self._check_whole()

    def whole_file(self, body: bytes) -> bytes:
        """The file's bytes in a body that is all there."""
        self._feed(body)
        return b"".join(self.file(iter(())))

    def _feed(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _wrong(str(error)) from None

    def _taken(self) -> list[bytes]:
        data, self._data = self._data, []
        return data

    def _check_whole(self) -> None:
        if not self._ended:
            raise _wrong("it breaks off")
        if not self._found_file:
            raise Problem("option_invalid", f"The form has no part `{FILE}`: it holds the items")

    # What the parser calls.

    def _begin_part(self) -> None:
        self._name, self._value = "", bytearray()
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Problem("body_too_large", f"The form has more than {MAX_PARTS} parts")

    def _add_to_header_name(self, data: bytes, start: int, end: int) -> None:
        name, value = self._header
        self._header = (name + data[start:end], value)
        self._count(end - start)

    def _add_to_header_value(self, data: bytes, start: int, end: int) -> None:
        name, value = self._header
        self._header = (name, value + data[start:end])
        self._count(end - start)

    def _end_header(self) -> None:
        (name, value), self._header = self._header, (b"", b"")
        if name.lower() == b"content-disposition":
            _, options = parse_options_header(value)
            self._name = options.get(b"name", b"").decode(errors="replace")

    def _end_headers(self) -> None:
        if self._found_file:
            raise Problem(
                "option_invalid",
                f"{self._name}: the part `{FILE}` is the last one; what else there is to say "
                "comes before it",
            )
        if self._name in self.fields:
            raise Problem("option_invalid", f"{self._name}: is there twice")
        self._found_file = self._name == FILE

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._found_file:
            self._data.append(data[start:end])
        else:
            self._value += data[start:end]
            self._count(end - start)

    def _end_part(self) -> None:
        if not self._found_file:
            self.fields[self._name] = self._value.decode(errors="replace")

    def _end(self) -> None:
        self._ended = True

    def _count(self, more_bytes: int) -> None:
        self._fields_bytes += more_bytes
        if self._fields_bytes > MAX_FIELDS_BYTES:
            about = f"The fields of the form have more than {MAX_FIELDS_BYTES:,} bytes"
            raise Problem("body_too_large", about)


def _wrong(why: str) -> Problem:
    return Problem("bad_request", f"The body is no whole multipart form: {why}")
