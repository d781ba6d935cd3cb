"""Prefetching of a chunk's remote images: later images are fetched while one is due."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Final

from producer.contract import ErrorCode
from producer.net.redact import redact_url
from worker.errors import ItemRejected
from worker.images.image_budget import FetchResult, ImageBudget, ImageReservation, NoCapacity

#: Maximum images of a chunk that are being fetched, wait for a thread or wait to be used.
LOOK_AHEAD: Final = 128
#: Assumed bytes of an image whose host has not announced its size yet.
GUESSED_BYTES: Final = 256 * 1024
#: Seconds beyond a deadline in which the fetching thread reports its own error.
SLACK_S: Final = 1.0

#: A function that starts to fetch a reference into its reservation.
StartFetch = Callable[[str, ImageReservation], "Future[FetchResult | NoCapacity]"]


class Prefetcher:
    """The remote images of one chunk, in order; used by one thread."""

    def __init__(
        self,
        references: Sequence[str],
        budget: ImageBudget,
        start_fetch: StartFetch,
        deadline: float | None,
    ) -> None:
        self._slots = deque(Slot(reference) for reference in references)
        self._budget = budget
        self._start_fetch = start_fetch
        self._deadline = deadline

    def fill(self) -> None:
        """Start fetches in order, as long as memory is free; later ones do not overtake."""
        for slot in islice(self._slots, LOOK_AHEAD):
            if slot.reservation is not None and slot.reservation.missing_bytes:
                slot.cancel()
            if slot.future is None:
                reservation = self._budget.reserve_prefetch(slot.needed_bytes, self._deadline)
                if reservation is None:
                    break
                slot.start(self._start_fetch, reservation)

    def next(self) -> tuple[FetchResult, ImageReservation]:
        """Return the due image and its reservation, which the caller releases after use."""
        self.fill()
        slot = self._slots.popleft()
        try:
            if slot.reservation is not None:
                slot.reservation.is_due = True
                result = self._wait(slot)
                if not isinstance(result, NoCapacity):
                    return result, slot.take_reservation()
                slot.cancel()
            # A due image waits for its memory, so NoCapacity cannot occur.
            slot.start(self._start_fetch, self._budget.reserve_due(self._deadline))
            result = self._wait(slot)
            assert not isinstance(result, NoCapacity)
            return result, slot.take_reservation()
        finally:
            slot.cancel()

    def close(self) -> None:
        """Cancel all remaining fetches."""
        for slot in self._slots:
            slot.cancel()
        self._slots.clear()

    def _wait(self, slot: Slot) -> FetchResult | NoCapacity:
        """Return the image, or an error at the deadline.

        A fetch may exceed its deadline while it waits for a thread or its host's address.
        """
        assert slot.future is not None
        deadline = self._deadline
        wait_s = None if deadline is None else max(0.0, deadline + SLACK_S - time.monotonic())
        try:
            return slot.future.result(wait_s)
        except TimeoutError:
            # A new, empty reservation: the fetch still reads into the old one.
            slot.cancel()
            slot.reservation = self._budget.reserve_due()
            message = (
                "the deadline passed while the image waited for a thread or its host's address"
            )
            return ItemRejected(
                ErrorCode.DEADLINE_EXCEEDED, f"{redact_url(slot.reference)}: {message}"
            )


class Slot:
    """One image of a prefetcher: its fetch and its reservation, if started."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.future: Future[FetchResult | NoCapacity] | None = None
        self.reservation: ImageReservation | None = None
        self.needed_bytes = GUESSED_BYTES

    def start(self, start_fetch: StartFetch, reservation: ImageReservation) -> None:
        """Start the fetch; the slot then owns the reservation."""
        self.reservation = reservation
        try:
            self.future = start_fetch(self.reference, reservation)
        except BaseException:
            reservation.release()
            raise

    def take_reservation(self) -> ImageReservation:
        """Return the reservation; the caller then owns and releases it."""
        assert self.reservation is not None
        reservation, self.reservation = self.reservation, None
        return reservation

    def cancel(self) -> None:
        """Cancel the fetch; its reservation is released as soon as no thread reads into it."""
        if self.future is None or self.reservation is None:
            return
        reservation = self.reservation
        self.needed_bytes = max(self.needed_bytes, reservation.missing_bytes)
        self.future.cancel()
        self.future.add_done_callback(lambda _: reservation.release())
        self.future = self.reservation = None
