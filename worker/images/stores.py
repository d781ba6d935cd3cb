"""Object stores, read through fsspec: `s3://bucket/key` and similar references.

The worker reads objects with its own credentials on behalf of every client, so it reads only the
prefixes that the settings allow. fsspec and the packages of the stores are imported with the first
image that needs them.
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

#: Connection timeout of a store in seconds.
CONNECT_S: Final = 5.0
#: Bytes per read: more than the size of most images.
PIECE_BYTES: Final = 4 << 20
#: Memory to read a piece: a store's package joins the parts that it has read.
READING_BYTES: Final = 2 * PIECE_BYTES
#: Names of the exceptions that the packages raise for missing or invalid credentials.
_NO_CREDENTIALS: Final = re.compile(r"Credential|Unauthori[sz]ed|Forbidden|Authentication")


def store_of(reference: str) -> str:
    """Return the store of a reference: `s3://bucket`."""
    return "/".join(reference.split("/", 3)[:3])


class Stores:
    """A reader of objects; thread-safe.

    ``allowed`` are prefixes of references, `s3://bucket/` or `s3://bucket/path/`, completed to the
    end of a path part. Raises ValueError for an invalid prefix.
    """

    def __init__(
        self, allowed: Sequence[str], *, connections: int, timeout_s: float, max_bytes: int
    ) -> None:
        self._allowed = tuple(parse_prefix(prefix) for prefix in allowed)
        self._connections = connections
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._systems: dict[str, Any] = {}

    def close(self) -> None:
        """Release the connections."""
        with self._lock:
            self._systems.clear()

    def get(self, reference: str, reservation: ImageReservation) -> bytes:
        """Read an object within `timeout_s`, which excludes time spent waiting for memory.

        Raises NoCapacity, and ItemRejected, whose message omits the reference and the store's own
        message, which may contain a signed URL.
        """
        self._check_allowed(reference)
        if time.monotonic() >= reservation.deadline:
            message = "the deadline passed before the request was sent"
            raise ItemRejected(ErrorCode.DEADLINE_EXCEEDED, message)
        pieces = self._pieces(reference, reservation)
        try:
            return read_within_budget(
                pieces, reservation, self._max_bytes, piece_bytes=READING_BYTES
            )
        except TimeoutError:
            if time.monotonic() >= reservation.deadline:
                raise ItemRejected(ErrorCode.DEADLINE_EXCEEDED, "the deadline passed") from None
            message = f"not complete after {self._timeout_s:g} s"
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, message) from None

    def _check_allowed(self, reference: str) -> None:
        match = REFERENCE.fullmatch(reference)
        if match is None or not reference.startswith(self._allowed):
            message = "not under an allowed prefix; BLIPLINE_FETCH_STORES lists the allowed ones"
            raise ItemRejected(ErrorCode.IMAGE_BLOCKED, message)
        parts = match[3].split("/")
        if {"", ".", ".."} & set(parts) or "::" in match[3] or not match[3].isprintable():
            message = "a key must not contain an empty part, the parts . and .., or ::"
            raise ItemRejected(ErrorCode.IMAGE_BLOCKED, message)

    def _pieces(self, reference: str, reservation: ImageReservation) -> Iterator[memoryview]:
        limit = time.monotonic() + self._timeout_s - reservation.waited_s
        piece = memoryview(b"")
        read = 0
        while not read or len(piece) == PIECE_BYTES:
            # Each piece repeats the previous piece's last byte: a read past the end is an error.
            overlap = min(read, 1)
            start = read - overlap
            # One byte beyond the limit suffices to detect an object that is too large.
            end = min(start + PIECE_BYTES, self._max_bytes + 1)
            deadline = min(limit + reservation.waited_s, reservation.deadline)
            piece = memoryview(self._read(reference, start, end, deadline))
            read = start + len(piece)
            yield piece[overlap:]

    def _read(self, reference: str, start: int, end: int, deadline: float) -> bytes:
        """Read a part of the object until the deadline, which is on the monotonic clock."""
        scheme, _, path = reference.partition("://")
        system = self._system(scheme)
        reading = system._cat_file(path, start=start, end=end)
        # Computed here because the first object of a scheme waits for the import of its package.
        remaining_s = deadline - time.monotonic()
        # fsspec's own wait checks its timeout once per second and leaves the read running.
        future = asyncio.run_coroutine_threadsafe(_with_timeout(reading, remaining_s), system.loop)
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
            message = f"the store cannot be read ({type(error).__name__})"
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, message) from None

    def _system(self, scheme: str) -> Any:
        """Return the file system of a scheme, shared by all threads to reuse connections."""
        with self._lock:
            if scheme not in self._systems:
                self._systems[scheme] = self._open_system(scheme)
            return self._systems[scheme]

    def _open_system(self, scheme: str) -> Any:
        try:
            import fsspec

            options = {"skip_instance_cache": True, "use_listings_cache": False}
            return fsspec.filesystem(scheme, **options, **self._options(scheme))
        except ImportError:
            message = f"this worker cannot read {scheme}://: pip install {PACKAGES[scheme]}"
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, message) from None
        except Exception as error:
            if _NO_CREDENTIALS.search(type(error).__name__):
                raise _no_access() from None
            message = f"the store cannot be used ({type(error).__name__})"
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, message) from None

    def _options(self, scheme: str) -> dict[str, Any]:
        if scheme != "s3":
            return {}
        limits = {"max_pool_connections": self._connections, "connect_timeout": CONNECT_S}
        return {"config_kwargs": {**limits, "read_timeout": self._timeout_s}}


async def _with_timeout(reading: Any, timeout_s: float) -> bytes:
    """Await a read; on timeout cancel it, which closes its connection."""
    return bytes(await asyncio.wait_for(reading, timeout_s))


def _no_access() -> ItemRejected:
    message = "the worker's credentials do not permit reading the object"
    return ItemRejected(ErrorCode.IMAGE_UNREACHABLE, message)
