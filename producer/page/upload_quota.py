"""Disk quota of uploaded files, for all tenants and for each of them."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Receive

#: Maximum bytes of one upload, which may contain several files.
MAX_UPLOAD_BYTES: Final = 512 * 1024 * 1024
#: Maximum bytes of all stored files and running uploads together.
MAX_STORED_BYTES: Final = 4 * 1024 * 1024 * 1024
#: Share of `MAX_STORED_BYTES` that one tenant may use.
TENANT_SHARE: Final = 1 / 4
#: Seconds after which a file is stale. Gradio deletes complete uploads long before, but not
#: interrupted ones.
STALE_S: Final = 2 * 3600


class QuotaExceeded(Exception):
    """The upload exceeds the disk quota."""


class UploadQuota:
    """Disk quota with reservations for running uploads; for one event loop."""

    def __init__(self, directory: str, keep_s: float) -> None:
        self._directory = directory
        self._keep_s = keep_s
        #: Reserved bytes of running uploads, by tenant.
        self._running: Counter[str] = Counter()
        #: Time of deletion, tenant and bytes of each finished upload, oldest first.
        self._finished: deque[tuple[float, str, int]] = deque()

    @asynccontextmanager
    async def reserve(self, name: str, length: int, receive: Receive) -> AsyncIterator[Receive]:
        """Reserve quota for an upload of `length` bytes; yield a `receive` that counts them.

        Raises QuotaExceeded.
        """
        if length > MAX_UPLOAD_BYTES:
            limit = MAX_UPLOAD_BYTES // 2**20
            raise QuotaExceeded(f"an upload is limited to {limit} MiB: choose fewer files at once")
        if self._used_by(name) + length > MAX_STORED_BYTES * TENANT_SHARE:
            raise QuotaExceeded("your uploads of the last hour fill your quota: try again later")
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        # This runs before the first await, so that concurrent requests see it.
        self._running[name] += length
        try:
            stored = await run_in_threadpool(delete_stale, self._directory)
            if stored + self._running.total() > MAX_STORED_BYTES:
                raise QuotaExceeded("the upload storage is full: try again in a few minutes")
            yield count
        finally:
            self._running[name] -= length
            if received:
                self._finished.append((time.monotonic() + self._keep_s, name, received))

    def _used_by(self, name: str) -> int:
        while self._finished and self._finished[0][0] <= time.monotonic():
            self._finished.popleft()
        self._running += Counter()
        return self._running[name] + sum(size for _, owner, size in self._finished if owner == name)


def delete_stale(directory: str) -> int:
    """Delete stale files below a directory; return the bytes of the remaining files."""
    total, oldest = 0, time.time() - STALE_S
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            # Gradio deletes files there concurrently.
            with suppress(OSError):
                path = os.path.join(folder, name)
                status = os.lstat(path)
                if status.st_mtime < oldest:
                    os.unlink(path)
                else:
                    total += status.st_size
        with suppress(OSError):
            if folder != directory and os.lstat(folder).st_mtime < oldest:
                os.rmdir(folder)
    return total
