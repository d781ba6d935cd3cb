"""The memory budget for encoded images, reserved before an image is read and released after use.

The budget has two halves:

- The prefetch half is for images that a chunk uses later. A prefetch never waits: if it exceeds the
  free memory, the image is read again when it is due.
- The due half is for the image that a chunk uses next. A due image takes free memory of the
  prefetch half first. Otherwise it waits for memory of the due half: once, for its maximum size.

This cannot deadlock. A chunk has only one due image, so it has no memory in the due half while it
waits. An image that has memory there needs no more: it is read within its time limit and used, and
its memory is released.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from io import BytesIO

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.memory_budget import MemoryBudget

#: The bytes of an image, or its error.
FetchResult = bytes | ItemRejected


class NoCapacity(Exception):
    """The memory budget is too full to prefetch an image."""


class ImageBudget:
    """The memory budget of one consumer for encoded images; thread-safe."""

    def __init__(self, total_bytes: int) -> None:
        self.prefetch = MemoryBudget(total_bytes // 2)
        self.due = MemoryBudget(total_bytes - total_bytes // 2)

    def reserve_prefetch(
        self, size_bytes: int, deadline: float | None = None
    ) -> ImageReservation | None:
        """Reserve memory for an image that is used later; None if the prefetch half is full."""
        if not self.prefetch.try_acquire(size_bytes):
            return None
        return ImageReservation(self, False, size_bytes, deadline)

    def reserve_due(self, deadline: float | None = None) -> ImageReservation:
        """Return an empty reservation for the image that a chunk uses next."""
        return ImageReservation(self, True, 0, deadline)


class ImageReservation:
    """The memory reserved for one image; used by one thread at a time, except `is_due`."""

    def __init__(
        self, budget: ImageBudget, is_due: bool, prefetch_bytes: int, deadline: float | None
    ) -> None:
        self.is_due = is_due
        #: End of all waiting, on the monotonic clock.
        self.deadline = math.inf if deadline is None else deadline
        #: Seconds spent waiting for memory, which do not count towards the host's timeout.
        self.waited_s = 0.0
        #: Bytes that the image needs, set when a prefetch raises NoCapacity.
        self.missing_bytes = 0
        self._budget = budget
        self._prefetch_bytes = prefetch_bytes
        self._due_bytes = 0
        #: Bytes that the image may use: more than reserved if it exceeds the whole budget.
        self._limit_bytes = prefetch_bytes

    def grow(self, size_bytes: int, max_bytes: int) -> None:
        """Reserve `size_bytes` in total before reading; the image never exceeds `max_bytes`.

        Only a new attempt, which has read nothing yet, may exceed an earlier `max_bytes`. Raises
        NoCapacity if the image is not due, and ItemRejected at its deadline.
        """
        if size_bytes <= self._limit_bytes:
            return
        self._shrink_due(0)
        if self._budget.prefetch.try_acquire(size_bytes - self._prefetch_bytes):
            self._prefetch_bytes = self._limit_bytes = size_bytes
            return
        if not self.is_due:
            # The maximum size: with less, the next attempt could fail halfway as well.
            self.missing_bytes = max_bytes
            raise NoCapacity
        started = time.monotonic()
        try:
            self._due_bytes = self._budget.due.acquire(
                max_bytes - self._prefetch_bytes, self.deadline
            )
        except TimeoutError:
            message = "the deadline passed before memory for the image was available"
            raise ItemRejected(ErrorCode.DEADLINE_EXCEEDED, message) from None
        finally:
            self.waited_s += time.monotonic() - started
        self._limit_bytes = max_bytes

    def shrink(self, size_bytes: int) -> None:
        """Release all but `size_bytes`, the size of the image once it is read."""
        prefetch_bytes = min(self._prefetch_bytes, size_bytes)
        if prefetch_bytes < self._prefetch_bytes:
            self._budget.prefetch.release(self._prefetch_bytes - prefetch_bytes)
            self._prefetch_bytes = prefetch_bytes
        self._shrink_due(min(self._due_bytes, size_bytes - prefetch_bytes))
        self._limit_bytes = size_bytes

    def release(self) -> None:
        """Release all memory; the caller must have freed the image."""
        self.shrink(0)

    def _shrink_due(self, size_bytes: int) -> None:
        if size_bytes < self._due_bytes:
            self._budget.due.release(self._due_bytes - size_bytes)
            self._due_bytes = size_bytes


def read_within_budget(
    pieces: Iterator[bytes | memoryview],
    reservation: ImageReservation,
    max_bytes: int,
    *,
    piece_bytes: int,
    expected_bytes: int | None = None,
) -> bytes:
    """Join all pieces, and reserve memory before each is read.

    `piece_bytes` is the memory to read one piece; `expected_bytes` is the size of all
    pieces together. Raises ItemRejected as soon as the size exceeds `max_bytes`.
    """
    if expected_bytes is not None and expected_bytes > max_bytes:
        raise too_large(max_bytes, expected_bytes)
    limit = _buffer_bytes(max_bytes if expected_bytes is None else expected_bytes) + piece_bytes
    if expected_bytes is not None:
        reservation.grow(limit, limit)
    data = BytesIO()
    while True:
        reservation.grow(min(_buffer_bytes(data.tell()) + piece_bytes, limit), limit)
        piece = next(pieces, b"")
        if not piece:
            break
        data.write(piece)
        if data.tell() > max_bytes:
            raise too_large(max_bytes)
    # getvalue() returns the joined pieces without a further copy.
    image = data.getvalue()
    reservation.shrink(len(image))
    return image


def _buffer_bytes(size_bytes: int) -> int:
    """Return the memory of a buffer that grows piece by piece."""
    return size_bytes + size_bytes // 8


def too_large(max_bytes: int, size_bytes: int | None = None) -> ItemRejected:
    """Return the error of an image with more than `max_bytes`, and with its size if it is known."""
    size = "more" if size_bytes is None else f"{size_bytes:,} bytes, more"
    message = (
        f"the image has {size} than {max_bytes:,} bytes (BLIPLINE_MAX_IMAGE_BYTES of the worker)"
    )
    return ItemRejected(ErrorCode.IMAGE_TOO_LARGE, message)
