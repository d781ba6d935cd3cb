"""Bodies that are needed as a whole, in bounded memory however many come at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, ParamSpec, TypeVar

from starlette.datastructures import Headers

from .problems import Problem

#: Bytes of bodies that this process holds at once at most.
MAX_HELD_BYTES: Final = 256 * 2**20
#: Seconds for a whole body to come in.
READ_S: Final = 300.0
#: Bytes from which on work on a body would hold up everybody else.
LARGE_BYTES: Final = 2**18

P = ParamSpec("P")
R = TypeVar("R")


class Intake:
    """Counts the bytes of all bodies that one process holds."""

    def __init__(self, max_held_bytes: int = MAX_HELD_BYTES, read_s: float = READ_S) -> None:
        self.held_bytes = 0
        self._max_held_bytes = max_held_bytes
        self._read_s = read_s

    @asynccontextmanager
    async def whole(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The body, which counts as held within the block; raises Problem.

        How large a single one may be is seen to before (bounds.py).
        """
        parts: list[bytes] = []
        try:
            await self._collect(chunks, parts)
            # Not twice.
            parts[:] = [b"".join(parts)]
            yield parts[0]
        finally:
            self.held_bytes -= sum(map(len, parts))

    async def _collect(self, chunks: AsyncIterator[bytes], parts: list[bytes]) -> None:
        try:
            async with asyncio.timeout(self._read_s):
                async for chunk in chunks:
                    parts.append(chunk)
                    self.held_bytes += len(chunk)
                    self._check_held()
        except TimeoutError:
            about = f"The body has not come within {self._read_s:g} s"
            raise Problem("request_timeout", about) from None

    def _check_held(self) -> None:
        if self.held_bytes > self._max_held_bytes:
            raise Problem(
                "unavailable",
                "Too many large bodies come in at this moment: try again",
                retry_after_s=1,
            )


def check_identity(headers: Headers) -> None:
    """Refuse bodies that are compressed; raises Problem."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Problem(
            "unsupported_media_type", f"Content-Encoding {encoding!r:.40}: send it as it is"
        )


def media_type(headers: Headers) -> str:
    """What the body is, without parameters; '' where nothing is said."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def work(size: int, act: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call it, in a thread where so many bytes would take long."""
    if size < LARGE_BYTES:
        return act(*args, **kwargs)
    return await asyncio.to_thread(act, *args, **kwargs)
