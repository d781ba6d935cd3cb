"""Images from object stores, through fsspec: `s3://bucket/key` and the like.

The worker's own credentials read them, for whoever submits a job: so only what the settings name is
read at all. fsspec and the packages of the stores are imported when the first image asks for them.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from config.stores import PACKAGES, REFERENCE, parse_prefix
from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.image_budget import ImageReservation, read_within_budget

#: Seconds to connect to a store.
CONNECT_S: Final = 5.0
#: Bytes that are read at once: more than most images have.
PIECE_BYTES: Final = 4 << 20
#: What that takes: a store's package joins what it has read.
READING_BYTES: Final = 2 * PIECE_BYTES
#: What the packages say, each in its own way, where there are no credentials, or wrong ones.
_NO_CREDENTIALS: Final = re.compile(r"Credential|Unauthori[sz]ed|Forbidden|Authentication")


def store_of(reference: str) -> str:
    """What of a reference names the store: `s3://bucket`."""
    return "/".join(reference.split("/", 3)[:3])


class Stores:
    """Reads objects; thread-safe.

    ``allowed`` are beginnings of references, `s3://bucket/` or `s3://bucket/path/`, that end where
    a part of a path ends. Raises ValueError for any other.
    """

    def __init__(
        self, allowed: Sequence[str], *, connections: int, timeout_s: float, max_bytes: int
    ) -> None:
        self._allowed = tuple(parse_prefix(entry) for entry in allowed)
        self._connections = connections
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._systems: dict[str, Any] = {}

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            self._systems.clear()

    def get(self, reference: str, held: ImageReservation) -> bytes:
        """The object, in time, which does not count what is spent waiting for room.

        Raises Crowded, and Refused, whose message leaves out the reference, and whatever the store
        said: that may hold the address that was asked, with a signature.
        """
        self._check_allowed(reference)
        if time.monotonic() >= held.deadline:
            about = "the deadline passed before the store was asked"
            raise ItemRejected(ErrorCode.DEADLINE_EXCEEDED, about)
        pieces = self._pieces(reference, held)
        try:
            return read_within_budget(pieces, held, self._max_bytes, piece_bytes=READING_BYTES)
        except TimeoutError:
            if time.monotonic() >= held.deadline:
                raise ItemRejected(
                    ErrorCode.DEADLINE_EXCEEDED, "cut short by the deadline"
                ) from None
            about = f"not complete after {self._timeout_s:g} s"
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, about) from None

    def _check_allowed(self, reference: str) -> None:
        found = REFERENCE.fullmatch(reference)
        if found is None or not reference.startswith(self._allowed):
            about = "not among what BLIPLINE_FETCH_STORES lets this worker read"
            raise ItemRejected(ErrorCode.IMAGE_BLOCKED, about)
        parts = found[3].split("/")
        if {"", ".", ".."} & set(parts) or "::" in found[3] or not found[3].isprintable():
            about = "a key has no empty part, and none that is . or .., and no ::"
            raise ItemRejected(ErrorCode.IMAGE_BLOCKED, about)

    def _pieces(self, reference: str, held: ImageReservation) -> Iterator[memoryview]:
        limit = time.monotonic() + self._timeout_s - held.waited_s
        piece = memoryview(b"")
        read = 0
        while not read or len(piece) == PIECE_BYTES:
            # Each begins with the last byte of the one before: to ask behind the end is an error.
            again = min(read, 1)
            start = read - again
            # One byte more than is allowed tells that it is too large, without the rest.
            end = min(start + PIECE_BYTES, self._max_bytes + 1)
            ends = min(limit + held.waited_s, held.deadline)
            piece = memoryview(self._read(reference, start, end, ends))
            read = start + len(piece)
            yield piece[again:]

    def _read(self, reference: str, start: int, end: int, ends: float) -> bytes:
        """A part of the object, by a moment on the monotonic clock."""
        kind, _, path = reference.partition("://")
        system = self._system(kind)
        reading = system._cat_file(path, start=start, end=end)
        # Only now: the first of a kind waits for its package.
        left_s = ends - time.monotonic()
        # fsspec's own way to wait looks at its time once a second, and leaves the rest running.
        future = asyncio.run_coroutine_threadsafe(_within(reading, left_s), system.loop)
        try:
            return bytes(future.result())
        except TimeoutError:
            raise
        except FileNotFoundError:
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, "no such object") from None
        except PermissionError:
            raise _no_access() from None
        except Exception as error:
            if _NO_CREDENTIALS.search(type(error).__name__):
                raise _no_access() from None
            about = f"the store cannot be read ({type(error).__name__})"
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, about) from None

    def _system(self, kind: str) -> Any:
        """One for all threads: its connections are used again."""
        with self._lock:
            if kind not in self._systems:
                self._systems[kind] = self._made(kind)
            return self._systems[kind]

    def _made(self, kind: str) -> Any:
        try:
            import fsspec

            options = {"skip_instance_cache": True, "use_listings_cache": False}
            return fsspec.filesystem(kind, **options, **self._options(kind))
        except ImportError:
            about = f"this worker cannot read {kind}://: pip install {PACKAGES[kind]}"
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, about) from None
        except Exception as error:
            if _NO_CREDENTIALS.search(type(error).__name__):
                raise _no_access() from None
            about = f"the store cannot be used ({type(error).__name__})"
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, about) from None

    def _options(self, kind: str) -> dict[str, Any]:
        if kind != "s3":
            return {}
        limits = {"max_pool_connections": self._connections, "connect_timeout": CONNECT_S}
        return {"config_kwargs": {**limits, "read_timeout": self._timeout_s}}


async def _within(reading: Any, left_s: float) -> bytes:
    """What it reads; when the time is over it is given up, and its connection closed."""
    return bytes(await asyncio.wait_for(reading, left_s))


def _no_access() -> ItemRejected:
    about = "this worker's credentials do not let it read the object"
    return ItemRejected(ErrorCode.IMAGE_UNREACHABLE, about)
