"""Batch uploads: a body is streamed into items, in bounded memory regardless of its length.

The event loop only receives bytes, and waits until they have been consumed before it receives
more. The submission's thread inflates and parses them.
"""

from __future__ import annotations

import io
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, cast

from starlette.requests import Request

from ...aio.bridge import LoopBridge
from ...errors import QueueFull
from ...jsonl import TooManyLines, read_items
from ..access.image_access import ALL_IMAGES, ImageAccess
from ..http.json_array import array_as_lines
from ..http.multipart import MultipartForm
from ..http.problems import Problem
from ..jobs.request_body import IDLE_TIMEOUT_S, media_type, with_idle_timeout
from ..settings import GatewaySettings
from .image_refs import resolve_item

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Media types of JSON lines.
JSON_LINES_TYPES: Final = (
    "application/jsonl",
    "application/x-ndjson",
    "text/plain",
    "application/gzip",
    "application/octet-stream",
)
#: Media type of a JSON array, which is recognised regardless of its type.
ARRAY_TYPE: Final = "application/json"
#: Media type of a form whose file contains JSON lines.
FORM_TYPE: Final = "multipart/form-data"
#: Media types that declare no content: none, and curl's default.
UNDECLARED_TYPES: Final = ("", "application/x-www-form-urlencoded")
#: Maximum bytes inflated at once.
PIECE_BYTES: Final = 256 * 1024
#: Size of the line reader's buffer; a larger one is no faster.
BUFFER_BYTES: Final = 64 * 1024
#: First bytes of a gzip file; no line of JSON begins with them.
GZIP_MAGIC: Final = b"\x1f\x8b"
#: Maximum concurrent uploads of one tenant and in total: each occupies one of 32 threads.
MAX_TENANT_UPLOADS: Final = 8
MAX_UPLOADS: Final = 28


class UploadSlots:
    """A limit of the concurrent uploads of one process."""

    def __init__(self) -> None:
        self._uploads: Counter[str] = Counter()

    @contextmanager
    def acquire(self, tenant: str) -> Iterator[None]:
        """Occupy a slot within the block; raises Problem if none is free."""
        if self._uploads[tenant] >= MAX_TENANT_UPLOADS or self._uploads.total() >= MAX_UPLOADS:
            raise queue_full("Too many uploads are in progress: try again when one has ended")
        self._uploads[tenant] += 1
        try:
            yield
        finally:
            self._uploads[tenant] -= 1


def queue_full(detail: str) -> Problem:
    """Return the problem for an upload that cannot start or continue now."""
    return Problem("queue_full", detail, retry_after_s=QueueFull.retry_after_s)


class Upload:
    """The items of one request's body; raises Problem if the body is invalid."""

    def __init__(
        self, request: Request, settings: GatewaySettings, access: ImageAccess = ALL_IMAGES
    ) -> None:
        self._settings = settings
        self._access = access
        kind = media_type(request.headers)
        self._is_gzip = _is_gzip(request.headers.get("content-encoding", ""))
        self._form: MultipartForm | None = None
        if kind == FORM_TYPE and not self._is_gzip:
            self._form = MultipartForm(request.headers["content-type"])
        elif kind not in (*JSON_LINES_TYPES, *UNDECLARED_TYPES, ARRAY_TYPE):
            raise Problem(
                "unsupported_media_type",
                f"Content-Type {kind!r:.100}: choose one of {', '.join(JSON_LINES_TYPES)}, "
                f"{ARRAY_TYPE} for an array, or "
                f"{FORM_TYPE}, whose file may be compressed, but not the form itself",
            )
        self._pieces = with_idle_timeout(request.stream(), IDLE_TIMEOUT_S)
        # Reads one piece at once, since each contains many lines.
        self._bridge = LoopBridge(read_items=1)

    async def fields(self) -> dict[str, str]:
        """Return the fields of a form before its file."""
        if self._form is None:
            return {}
        await self._form.read_fields(self._pieces)
        return self._form.fields

    def stop(self) -> None:
        """Stop the thread that waits for items."""
        self._bridge.stop()

    def items(self) -> Iterator[dict[str, Any]]:
        """Yield an item for each line, in a thread; the item of an invalid line has an error."""
        is_empty, max_image_bytes = True, self._settings.max_image_bytes
        lines = io.BufferedReader(_PieceReader(self._data()), BUFFER_BYTES)
        try:
            for item in read_items(lines, self._settings.gateway_max_items):
                is_empty = False
                yield resolve_item(item, max_image_bytes, self._access)
        except TooManyLines as error:
            raise Problem("body_too_large", f"{error} (BLIPLINE_GATEWAY_MAX_ITEMS)") from None
        if is_empty:
            raise Problem("option_invalid", "The upload has no items: send a line of JSON for each")

    def _data(self) -> Iterator[bytes]:
        # This blocks the thread until the event loop has received more.
        data = cast(Iterator[bytes], self._bridge.items(self._pieces))
        if self._form is not None:
            data = self._form.file(data)
        max_bytes = self._settings.max_body_bytes
        if self._is_gzip:
            data = inflate(data, max_bytes)
        # A gzip file is recognised by its content, regardless of its declared type.
        data, is_gzip_file = _starts_with(data, GZIP_MAGIC)
        return array_as_lines(inflate(data, max_bytes) if is_gzip_file else data)


def inflate(pieces: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    """Inflate a gzip stream of any number of members, in pieces of up to PIECE_BYTES."""
    member, remaining = _new_member(), max_bytes
    for piece in pieces:
        while piece:
            if member.eof:
                # Some programs pad the stream with zeros.
                if not (piece := piece.lstrip(b"\0")):
                    break
                member = _new_member()
            try:
                data = member.decompress(piece, PIECE_BYTES)
            except zlib.error as error:
                raise _invalid_gzip(f"{error}") from None
            if (remaining := remaining - len(data)) < 0:
                raise Problem(
                    "body_too_large",
                    f"The inflated body exceeds the limit of {max_bytes:,} bytes "
                    "(BLIPLINE_GATEWAY_MAX_BODY_MB)",
                )
            if data:
                yield data
            piece = member.unused_data if member.eof else member.unconsumed_tail
    while data := member.decompress(member.unconsumed_tail, PIECE_BYTES):
        yield data
    if not member.eof:
        raise _invalid_gzip("it is truncated")


def _is_gzip(encoding: str) -> bool:
    if (name := encoding.strip().lower()) in ("", "identity"):
        return False
    if name in ("gzip", "x-gzip"):
        return True
    raise Problem(
        "unsupported_media_type",
        f"Content-Encoding {encoding!r:.40}: send the body uncompressed or as gzip",
        headers={"Accept-Encoding": "gzip"},
    )


def _new_member() -> zlib._Decompress:
    # 16 selects the gzip format with its header and checksum.
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _invalid_gzip(reason: str) -> Problem:
    return Problem("bad_request", f"The body is not a complete gzip stream: {reason}")


def _starts_with(pieces: Iterator[bytes], magic: bytes) -> tuple[Iterator[bytes], bool]:
    """Return the same pieces, and whether they begin with these bytes."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= len(magic):
            break
    return chain((head,) if head else (), pieces), head.startswith(magic)


class _PieceReader(io.RawIOBase):
    """A readable file over pieces of bytes."""

    name = "the body"

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        target = memoryview(buffer).cast("B")
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
