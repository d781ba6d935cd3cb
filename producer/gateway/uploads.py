"""The body of an upload becomes items: as a stream, in bounded memory, whatever its length.

The event loop only takes bytes from the socket, and no more of them than were used up before;
inflating and parsing are done in the thread that submits.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, cast

from starlette.requests import Request

from ..aio.bridge import LoopBridge
from ..jsonl import TooManyLines, read_items
from .image_refs import resolve_item
from .multipart import MultipartForm
from .problems import Problem
from .request_body import SILENT_S, media_type, with_idle_timeout
from .settings import GatewaySettings

if TYPE_CHECKING:
    from typing_extensions import Buffer


from collections import Counter
from contextlib import contextmanager

from ..errors import QueueFull

#: What a body of lines may be called.
LINES: Final = (
    "application/jsonl",
    "application/x-ndjson",
    "text/plain",
    "application/gzip",
    "application/octet-stream",
)
#: What has a file of lines in it.
FORM: Final = "multipart/form-data"
#: What says nothing of a body: no type, and the one that curl sends where it is told none.
UNSAID: Final = ("", "application/x-www-form-urlencoded")
#: Bytes that are inflated at once at most.
PIECE_BYTES: Final = 256 * 1024
#: Bytes from which lines are cut; more of them make it no faster.
BUFFER_BYTES: Final = 64 * 1024
#: How a gzip file begins; no line of JSON begins so.
GZIP_MAGIC: Final = b"\x1f\x8b"


class Upload:
    """The items of one request's body. Whatever is wrong with the body is a Problem."""

    def __init__(self, request: Request, settings: GatewaySettings) -> None:
        self._settings = settings
        kind = media_type(request.headers)
        self._is_gzip = _is_gzip(request.headers.get("content-encoding", ""))
        self._form: MultipartForm | None = None
        if kind == FORM and not self._is_gzip:
            self._form = MultipartForm(request.headers["content-type"])
        elif kind not in LINES and kind not in UNSAID:
            raise Problem(
                "unsupported_media_type",
                f"Content-Type {kind!r:.100}: choose one of {', '.join(LINES)}, or {FORM}, whose "
                "file may be compressed, but not the form",
            )
        self._pieces = with_idle_timeout(request.stream(), SILENT_S)
        # Of pieces, each of which holds many lines.
        self._feed = LoopBridge(take_items=1)

    async def fields(self) -> dict[str, str]:
        """What a form says before its file begins."""
        if self._form is None:
            return {}
        await self._form.read_fields(self._pieces)
        return self._form.fields

    def stop(self) -> None:
        """Nobody wants it any more: the thread stops waiting."""
        self._feed.stop()

    def items(self) -> Iterator[dict[str, Any]]:
        """An item for each line, for a thread; one that cannot be used is an item with an error."""
        is_empty, max_image_bytes = True, self._settings.max_image_bytes
        lines = io.BufferedReader(_Stream(self._data()), BUFFER_BYTES)
        try:
            for item in read_items(lines, self._settings.gateway_max_items):
                is_empty = False
                yield resolve_item(item, max_image_bytes)
        except TooManyLines as error:
            raise Problem("body_too_large", f"{error} (BLIPLINE_GATEWAY_MAX_ITEMS)") from None
        if is_empty:
            raise Problem("option_invalid", "There is no item: send a line of JSON for each")

    def _data(self) -> Iterator[bytes]:
        # It waits in the thread for the event loop to bring more.
        data = cast(Iterator[bytes], self._feed.items(self._pieces))
        if self._form is not None:
            data = self._form.file(data)
        max_bytes = self._settings.max_body_bytes
        if self._is_gzip:
            data = inflated(data, max_bytes)
        # Whatever its name or its type says: a compressed file.
        data, is_file = _begins(data, GZIP_MAGIC)
        return inflated(data, max_bytes) if is_file else data


def _is_gzip(encoding: str) -> bool:
    if (name := encoding.strip().lower()) in ("", "identity"):
        return False
    if name in ("gzip", "x-gzip"):
        return True
    raise Problem(
        "unsupported_media_type",
        f"Content-Encoding {encoding!r:.40}: send it as it is, or as gzip",
        headers={"Accept-Encoding": "gzip"},
    )


def inflated(pieces: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    """What a gzip stream holds, of any number of members, in pieces of PIECE_BYTES at most."""
    member, left = _new_member(), max_bytes
    for piece in pieces:
        while piece:
            if member.eof:
                # Some programs fill up with zeros.
                if not (piece := piece.lstrip(b"\0")):
                    break
                member = _new_member()
            try:
                found = member.decompress(piece, PIECE_BYTES)
            except zlib.error as error:
                raise _no_gzip(f"{error}") from None
            if (left := left - len(found)) < 0:
                raise Problem(
                    "body_too_large",
                    f"Inflated it has more than {max_bytes:,} bytes (BLIPLINE_GATEWAY_MAX_BODY_MB)",
                )
            if found:
                yield found
            piece = member.unused_data if member.eof else member.unconsumed_tail
    while found := member.decompress(member.unconsumed_tail, PIECE_BYTES):
        yield found
    if not member.eof:
        raise _no_gzip("it breaks off")


def _new_member() -> zlib._Decompress:
    # 16: with gzip's header and checksum.
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _no_gzip(why: str) -> Problem:
    return Problem("bad_request", f"The body is no whole gzip stream: {why}")


def _begins(pieces: Iterator[bytes], magic: bytes) -> tuple[Iterator[bytes], bool]:
    """The same pieces, and whether they begin with these bytes."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= len(magic):
            break
    return chain((head,) if head else (), pieces), head.startswith(magic)


class _Stream(io.RawIOBase):
    """Pieces of bytes as a file to read."""

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


#: Uploads at once, of one name and all in all: each holds a thread, and there are 32.
UPLOADS_EACH: Final = 8
UPLOADS: Final = 28


class UploadSlots:
    """Counts the uploads of one process."""

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def one_more(self, name: str) -> Iterator[None]:
        """Counts as one within the block; raises Problem where there are too many."""
        if self._under_way[name] >= UPLOADS_EACH or self._under_way.total() >= UPLOADS:
            raise no_room("Too many uploads are under way: try again when one of them has ended")
        self._under_way[name] += 1
        try:
            yield
        finally:
            self._under_way[name] -= 1


def no_room(about: str) -> Problem:
    """An upload that cannot begin, or go on, for now."""
    return Problem("queue_full", about, retry_after_s=QueueFull.retry_after_s)
