"""Room for encoded images, from before they are read until they have been used.

It has two halves. The images that a chunk is to use later are read *early*, into the one half; who
finds none free there does not wait for it, and is read again when its turn has come. The one image
of each chunk that is *due* takes from the early half what is free; only for the other half it
waits, once, for all that it can come to, while its chunk has nothing else there. So whoever has
what another waits for needs no more room: it is read within its time and used, and then gives back.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from io import BytesIO

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.memory_budget import MemoryBudget

#: An image's bytes, or why there are none.
Fetched = bytes | ItemRejected


class NoCapacity(Exception):
    """No room to read an image before it is due."""


class ImageBudget:
    """The room of one consumer; thread-safe."""

    def __init__(self, total_bytes: int) -> None:
        self.early = MemoryBudget(total_bytes // 2)
        self.due = MemoryBudget(total_bytes - total_bytes // 2)

    def for_early(self, size_bytes: int, deadline: float | None = None) -> ImageReservation | None:
        """For an image whose turn comes later; None if there is none of that size."""
        if not self.early.take_now(size_bytes):
            return None
        return ImageReservation(self, False, size_bytes, deadline)

    def for_due(self, deadline: float | None = None) -> ImageReservation:
        """For the image of a chunk that is used next; nothing yet."""
        return ImageReservation(self, True, 0, deadline)


class ImageReservation:
    """What one image holds of it; used by one thread at a time, but for `is_due`."""

    def __init__(
        self, room: ImageBudget, is_due: bool, early_bytes: int, deadline: float | None
    ) -> None:
        self.is_due = is_due
        #: On the monotonic clock: nobody waits any longer.
        self.deadline = math.inf if deadline is None else deadline
        #: Seconds spent waiting for room: no host's fault.
        self.waited_s = 0.0
        #: What it needs, where there was no room for it.
        self.crowded_bytes = 0
        self._room = room
        self._early = early_bytes
        self._due = 0
        #: What the image may have: more than is taken if it is larger than all of the room.
        self._may_have = early_bytes

    def need(self, size_bytes: int, at_most_bytes: int) -> None:
        """Have room for so much before it is read; an image never comes to more than `at_most`.

        Only a new try, which has read nothing yet, may need more than it once said. Raises Crowded
        if the image is not due, and Refused at its deadline.
        """
        if size_bytes <= self._may_have:
            return
        self._give_due(0)
        if self._room.early.take_now(size_bytes - self._early):
            self._early = self._may_have = size_bytes
            return
        if not self.is_due:
            # All that it can come to: half of it would be read in vain once more.
            self.crowded_bytes = at_most_bytes
            raise NoCapacity
        began = time.monotonic()
        try:
            self._due = self._room.due.take(at_most_bytes - self._early, self.deadline)
        except TimeoutError:
            about = "the deadline passed before there was room in memory for the image"
            raise ItemRejected(ErrorCode.DEADLINE_EXCEEDED, about) from None
        finally:
            self.waited_s += time.monotonic() - began
        self._may_have = at_most_bytes

    def keep(self, size_bytes: int) -> None:
        """It is read, and this large: give the rest back."""
        early = min(self._early, size_bytes)
        if early < self._early:
            self._room.early.give(self._early - early)
            self._early = early
        self._give_due(min(self._due, size_bytes - early))
        self._may_have = size_bytes

    def release(self) -> None:
        """Nothing is held any longer, of what was read neither."""
        self.keep(0)

    def _give_due(self, but_bytes: int) -> None:
        if but_bytes < self._due:
            self._room.due.give(self._due - but_bytes)
            self._due = but_bytes


def read_within_budget(
    pieces: Iterator[bytes | memoryview],
    held: ImageReservation,
    max_bytes: int,
    *,
    piece_bytes: int,
    expected_bytes: int | None = None,
) -> bytes:
    """All pieces in one, once there is room for each; raises Refused as soon as it is too much.

    `piece_bytes` are what it takes to read a piece, `expected_bytes` what all of them have.
    """
    if expected_bytes is not None and expected_bytes > max_bytes:
        raise too_large(max_bytes)
    at_most = _growing(max_bytes if expected_bytes is None else expected_bytes) + piece_bytes
    if expected_bytes is not None:
        held.need(at_most, at_most)
    data = BytesIO()
    while True:
        held.need(min(_growing(data.tell()) + piece_bytes, at_most), at_most)
        piece = next(pieces, b"")
        if not piece:
            break
        data.write(piece)
        if data.tell() > max_bytes:
            raise too_large(max_bytes)
    # Of all ways to join pieces the one that copies nothing.
    whole = data.getvalue()
    held.keep(len(whole))
    return whole


def _growing(size_bytes: int) -> int:
    """What a buffer takes that grows piece by piece."""
    return size_bytes + size_bytes // 8


def too_large(max_bytes: int) -> ItemRejected:
    """What every image with more bytes than this ends with."""
    return ItemRejected(ErrorCode.IMAGE_TOO_LARGE, f"more than {max_bytes:,} bytes")
