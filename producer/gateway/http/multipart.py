"""Parsers of multipart forms, in bounded memory and without a disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Container, Iterator
from dataclasses import dataclass
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


class FormParser(ABC):
    """A parser that reports parts to its subclass; raises Problem for invalid forms."""

    def __init__(
        self,
        content_type: str,
        max_parts: int = MAX_PARTS,
        max_fields_bytes: int = MAX_FIELDS_BYTES,
    ) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise invalid_form("its Content-Type has no boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._begin_part,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._end_part,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise invalid_form(str(error)) from None
        self._max_parts = max_parts
        self._max_fields_bytes = max_fields_bytes
        self._fields_bytes = self._parts = 0
        self._ended = False
        #: Name of the current part, and the file name of a file.
        self._name = ""
        self._filename: str | None = None
        self._header = (b"", b"")

    def feed(self, piece: bytes) -> None:
        """Parse a piece of the body; raises Problem."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise invalid_form(str(error)) from None

    @abstractmethod
    def _begin_part(self) -> None:
        """Begin a part whose headers are complete."""

    @abstractmethod
    def _take_part_data(self, data: bytes) -> None:
        """Process bytes of the current part."""

    @abstractmethod
    def _end_part(self) -> None:
        """End the current part."""

    def _count(self, size: int) -> None:
        """Count bytes of headers and fields; raises Problem above the limit."""
        self._fields_bytes += size
        if self._fields_bytes > self._max_fields_bytes:
            detail = f"The fields of the form have more than {self._max_fields_bytes:,} bytes"
            raise Problem("body_too_large", detail)

    # Callbacks of the parser.

    def _on_part_begin(self) -> None:
        self._name, self._filename = "", None
        self._parts += 1
        if self._parts > self._max_parts:
            raise Problem("body_too_large", f"The form has more than {self._max_parts} parts")

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
            if b"filename" in options:
                self._filename = options[b"filename"].decode(errors="replace")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._take_part_data(data[start:end])

    def _on_end(self) -> None:
        self._ended = True


class MultipartForm(FormParser):
    """A stream of fields, followed by the file `file`; raises Problem for other forms."""

    def __init__(self, content_type: str) -> None:
        super().__init__(content_type)
        #: Values of the fields before the file, by name.
        self.fields: dict[str, str] = {}
        self._has_file = False
        self._value = bytearray()
        #: Bytes of the file that are not yet returned.
        self._data: list[bytes] = []

    async def read_fields(self, pieces: AsyncIterator[bytes]) -> None:
        """Read the fields, up to the beginning of the file."""
        async for piece in pieces:
            self.feed(piece)
            if self._has_file:
                return
        self._check_complete()

    def file(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the bytes of the file after `read_fields`; for the submission's thread."""
        yield from self._take_data()
        for piece in pieces:
            self.feed(piece)
            yield from self._take_data()
        self._check_complete()

    def _take_data(self) -> list[bytes]:
        data, self._data = self._data, []
        return data

    def _check_complete(self) -> None:
        if not self._ended:
            raise invalid_form("it is truncated")
        if not self._has_file:
            detail = f"The form has no part `{FILE_FIELD}`, which contains the items"
            raise Problem("option_invalid", detail)

    def _begin_part(self) -> None:
        if self._has_file:
            raise Problem(
                "option_invalid",
                f"{self._name}: the part `{FILE_FIELD}` must be the last one; send other fields "
                "before it",
            )
        if self._name in self.fields:
            raise Problem("option_invalid", f"{self._name}: the form contains this field twice")
        self._has_file = self._name == FILE_FIELD
        self._value = bytearray()

    def _take_part_data(self, data: bytes) -> None:
        if self._has_file:
            self._data.append(data)
        else:
            self._value += data
            self._count(len(data))

    def _end_part(self) -> None:
        if not self._has_file:
            self.fields[self._name] = self._value.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class FormPart:
    """A part of a form."""

    name: str
    data: bytes
    #: None if the part is not a file.
    filename: str | None


class WholeForm(FormParser):
    """A form in memory, with its file in any position."""

    def __init__(self, content_type: str, large_names: Container[str], **limits: int) -> None:
        """`large_names` are the names of parts that are as large as the body may be."""
        super().__init__(content_type, **limits)
        self._large_names = large_names
        self._parts_read: list[FormPart] = []
        self._data: list[bytes] = []

    def parts(self, body: bytes) -> list[FormPart]:
        """Return the parts of a body; raises Problem."""
        self.feed(body)
        if not self._ended:
            raise invalid_form("it is truncated")
        return self._parts_read

    def _begin_part(self) -> None:
        self._data = []

    def _take_part_data(self, data: bytes) -> None:
        self._data.append(data)
        if self._name not in self._large_names:
            self._count(len(data))

    def _end_part(self) -> None:
        self._parts_read.append(FormPart(self._name, b"".join(self._data), self._filename))


def invalid_form(reason: str) -> Problem:
    """Return the problem for a body that is not a complete form."""
    return Problem("bad_request", f"The body is not a complete multipart form: {reason}")
