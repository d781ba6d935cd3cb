"""The images of one chunk that come from elsewhere: one is due, others are fetched early."""

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
from worker.images.image_budget import Fetched, ImageBudget, ImageReservation, NoCapacity

#: Images of a chunk that are fetched, or wait for a thread, or wait to be used.
LOOK_AHEAD: Final = 128
#: Bytes that an image is taken for before its host has said more.
GUESSED_BYTES: Final = 256 * 1024
#: Seconds beyond a deadline in which a thread says itself what the trouble was.
SLACK_S: Final = 1.0

#: Begins to fetch one into the room that it holds.
Begin = Callable[[str, ImageReservation], "Future[Fetched | NoCapacity]"]


class Prefetcher:
    """In order; used by one thread."""

    def __init__(
        self, references: Sequence[str], room: ImageBudget, begin: Begin, deadline: float | None
    ) -> None:
        self._places = deque(Slot(reference) for reference in references)
        self._room = room
        self._begin = begin
        self._deadline = deadline

    def look_ahead(self) -> None:
        """Begin what there is room for; later ones do not overtake."""
        for place in islice(self._places, LOOK_AHEAD):
            if place.held is not None and place.held.crowded_bytes:
                place.give_up()
            if place.future is None:
                held = self._room.for_early(place.needed_bytes, self._deadline)
                if held is None:
                    break
                place.begin(self._begin, held)

    def next(self) -> tuple[Fetched, ImageReservation]:
        """The image that is due, and its room, which is to be released once it has been used."""
        self.look_ahead()
        place = self._places.popleft()
        try:
            if place.held is not None:
                place.held.is_due = True
                fetched = self._awaited(place)
                if not isinstance(fetched, NoCapacity):
                    return fetched, place.take()
                place.give_up()
            # Now it waits for the room that it needs: it cannot be crowded.
            place.begin(self._begin, self._room.for_due(self._deadline))
            fetched = self._awaited(place)
            assert not isinstance(fetched, NoCapacity)
            return fetched, place.take()
        finally:
            place.give_up()

    def close(self) -> None:
        """Whoever stops early wants none of the others."""
        for place in self._places:
            place.give_up()
        self._places.clear()

    def _awaited(self, place: Slot) -> Fetched | NoCapacity:
        """Its bytes, or an error in time: it may wait for a thread, or for its host's address."""
        assert place.future is not None
        deadline = self._deadline
        wait_s = None if deadline is None else max(0.0, deadline + SLACK_S - time.monotonic())
        try:
            return place.future.result(wait_s)
        except TimeoutError:
            # Not its room: that is still read into.
            place.give_up()
            place.held = self._room.for_due()
            about = "the deadline passed before it had its turn, or its host's address"
            return ItemRejected(
                ErrorCode.DEADLINE_EXCEEDED, f"{redact_url(place.reference)}: {about}"
            )


class Slot:
    """One of the line."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.future: Future[Fetched | NoCapacity] | None = None
        self.held: ImageReservation | None = None
        self.needed_bytes = GUESSED_BYTES

    def begin(self, begin: Begin, held: ImageReservation) -> None:
        self.held = held
        try:
            self.future = begin(self.reference, held)
        except BaseException:
            held.release()
            raise

    def take(self) -> ImageReservation:
        """Its room, which is somebody else's to release from now on."""
        assert self.held is not None
        held, self.held = self.held, None
        return held

    def give_up(self) -> None:
        """Its room is free as soon as nobody reads into it."""
        if self.future is None or self.held is None:
            return
        held = self.held
        self.needed_bytes = max(self.needed_bytes, held.crowded_bytes)
        self.future.cancel()
        self.future.add_done_callback(lambda _: held.release())
        self.future = self.held = None
