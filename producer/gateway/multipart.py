"""A streaming parser of multipart forms with one file, in bounded memory and without a disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from .problems import Problem

#: Name of the part with the file.
FILE_FIELD: Final = "file"
#: Maximum bytes of all fields before the file and of all parts' headers.
MAX_FIELDS_BYTES: Final = 64 * 1024
#: Maximum number of parts.
MAX_PARTS: Final = 32


class MultipartForm:
    """A form of fields, followed by the file; raises Problem for other forms."""

    def __init__(self, content_type: str) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise _invalid("its Content-Type has no boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _invalid(str(error)) from None
        #: Values of the fields before the file, by name.
        self.fields: dict[str, str] = {}
        self._fields_bytes = self._parts = 0
        self._has_file = self._ended = False
        self._name = ""
        self._header = (b"", b"")
        self._value = bytearray()
        #: Bytes of the file that are not yet returned.
        self._data: list[bytes] = []

    async def read_fields(self, pieces: AsyncIterator[bytes]) -> None:
        """Read the fields, up to the beginning of the file."""
        async for piece in pieces:
            self._feed(piece)
            if self._has_file:
                return
        self._check_complete()

    def file(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the bytes of the file after `read_fields`; for the submission's thread."""
        yield from self._take_data()
        for piece in pieces:
            self._feed(piece)
            yield from self._take_data()
        self._check_complete()

    def whole_file(self, body: bytes) -> bytes:
        """Return the file's bytes in a complete body."""
        self._feed(body)
        return b"".join(self.file(iter(())))

    def _feed(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _invalid(str(error)) from None

    def _take_data(self) -> list[bytes]:
        data, self._data = self._data, []
        return data

    def _check_complete(self) -> None:
        if not self._ended:
            raise _invalid("it is truncated")
        if not self._has_file:
            detail = f"The form has no part `{FILE_FIELD}`, which contains the items"
            raise Problem("option_invalid", detail)

    # Callbacks of the parser.

    def _on_part_begin(self) -> None:
        self._name, self._value = "", bytearray()
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Problem("body_too_large", f"The form has more than {MAX_PARTS} parts")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        name, value = self._header
        self._header = (name + data[start:end], value)
        self._count(end - start)

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        name, value = self._header
        self._header = (name, value + data[start:end])
        self._count(end - start)

    def _on_header_end(self) -> None:
        (name, value), self._header = self._header, (b"", b"")
        if name.lower() == b"content-disposition":
            _, options = parse_options_header(value)
            self._name = options.get(b"name", b"").decode(errors="replace")

    def _on_headers_finished(self) -> None:
        if self._has_file:
            raise Problem(
                "option_invalid",
                f"{self._name}: the part `{FILE_FIELD}` must be the last one; send other fields "
                "before it",
            )
        if self._name in self.fields:
            raise Problem("option_invalid", f"{self._name}: the form contains this field twice")
        self._has_file = self._name == FILE_FIELD

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._has_file:
            self._data.append(data[start:end])
        else:
            self._value += data[start:end]
            self._count(end - start)

    def _on_part_end(self) -> None:
        if not self._has_file:
            self.fields[self._name] = self._value.decode(errors="replace")

    def _on_end(self) -> None:
        self._ended = True

    def _count(self, size: int) -> None:
        self._fields_bytes += size
        if self._fields_bytes > MAX_FIELDS_BYTES:
            detail = f"The fields of the form have more than {MAX_FIELDS_BYTES:,} bytes"
            raise Problem("body_too_large", detail)


def _invalid(reason: str) -> Problem:
    return Problem("bad_request", f"The body is not a complete multipart form: {reason}")
