"""How much the uploaded files of everybody may take on this machine's disk."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Receive

#: Bytes of one upload, which may hold several files.
MAX_UPLOAD_BYTES: Final = 512 * 1024 * 1024
#: Bytes of all that lie there at once, or are on their way.
MAX_HELD_BYTES: Final = 4 * 1024 * 1024 * 1024
#: Of these, what one name may take.
SHARE: Final = 1 / 4
#: Seconds after which a file is nobody's: Gradio deletes what was uploaded well before, but knows
#: nothing of an upload that broke off.
FORGOTTEN_S: Final = 2 * 3600


class NoRoom(Exception):
    """An upload that cannot be taken; the message says why."""


class UploadQuota:
    """What uploads take, and what those that run have yet to take; for one event loop."""

    def __init__(self, directory: str, keep_s: float) -> None:
        self._directory = directory
        self._keep_s = keep_s
        self._running: Counter[str] = Counter()
        #: By when it is deleted, the name, and the bytes of each upload.
        self._kept: deque[tuple[float, str, int]] = deque()

    @asynccontextmanager
    async def held(self, name: str, length: int, receive: Receive) -> AsyncIterator[Receive]:
        """Room for an upload of so many bytes, which come by what is given; raises NoRoom."""
        if length > MAX_UPLOAD_BYTES:
            most = MAX_UPLOAD_BYTES // 2**20
            raise NoRoom(f"one upload may have {most} MiB: choose fewer files at once")
        if self._taken_by(name) + length > MAX_HELD_BYTES * SHARE:
            raise NoRoom("your pictures of the last hour take all your room: try again later")
        came = 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            return message

        # At once, so that the next to ask knows of it.
        self._running[name] += length
        try:
            lying = await run_in_threadpool(tidy, self._directory)
            if lying + self._running.total() > MAX_HELD_BYTES:
                raise NoRoom("there is no room for more pictures now: try again in some minutes")
            yield counted
        finally:
            self._running[name] -= length
            if came:
                self._kept.append((time.monotonic() + self._keep_s, name, came))

    def _taken_by(self, name: str) -> int:
        while self._kept and self._kept[0][0] <= time.monotonic():
            self._kept.popleft()
        self._running += Counter()
        return self._running[name] + sum(size for _, whose, size in self._kept if whose == name)


def tidy(directory: str) -> int:
    """Delete what was forgotten there; returns the bytes of the rest."""
    total, oldest = 0, time.time() - FORGOTTEN_S
    for place, _, names in os.walk(directory, topdown=False):
        for name in names:
            # Others delete there, too.
            with suppress(OSError):
                path = os.path.join(place, name)
                found = os.lstat(path)
                if found.st_mtime < oldest:
                    os.unlink(path)
                else:
                    total += found.st_size
        with suppress(OSError):
            if place != directory and os.lstat(place).st_mtime < oldest:
                os.rmdir(place)
    return total
