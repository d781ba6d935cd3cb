"""Images that were uploaded to Redis: small ones several at a time, large ones piece by piece."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final

import redis

from producer.contract import ErrorCode
from producer.ledger.keys import Keys
from worker.errors import ItemRejected
from worker.images.image_budget import Fetched, ImageBudget, ImageReservation, read_within_budget

#: Blobs read in one round trip: they are in memory together.
BLOB_PAGE: Final = 8
#: Bytes of one blob that are read in one round trip.
PIECE_BYTES: Final = 1 << 20
#: What that takes: the client has them in its buffer, and copies them from there twice.
READING_BYTES: Final = 3 * PIECE_BYTES


class Blobs:
    """Reads blobs; thread-safe."""

    def __init__(self, client: redis.Redis, keys: Keys, room: ImageBudget, max_bytes: int) -> None:
        self._redis = client
        self._keys = keys
        self._room = room
        self._max_bytes = max_bytes

    def get(
        self, references: Sequence[str], deadline: float | None = None
    ) -> Generator[tuple[Fetched, ImageReservation]]:
        """Lazily, each in its turn, with its room, which is to be released once it was used."""
        left = list(reversed(references))
        while left:
            held = self._room.for_due(deadline)
            try:
                held.need(READING_BYTES, READING_BYTES)
            except ItemRejected as refusal:
                yield _refused(left.pop(), refusal), held
                continue
            page = [held, *self._others(min(BLOB_PAGE, len(left)) - 1)]
            try:
                yield from self._page([(left.pop(), held) for held in page])
            finally:
                for held in page:
                    held.release()

    def _others(self, count: int) -> Iterator[ImageReservation]:
        """As many as there is room for now."""
        for _ in range(count):
            held = self._room.for_early(READING_BYTES)
            if held is None:
                return
            yield held

    def _page(
        self, page: Sequence[tuple[str, ImageReservation]]
    ) -> Iterator[tuple[Fetched, ImageReservation]]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for reference, _ in page:
                pipeline.getrange(self._keys.blob(reference), 0, PIECE_BYTES - 1)
            # What is no string is no blob either.
            begun: list[Any] = pipeline.execute(raise_on_error=False)
        for (_, held), data in zip(page, begun, strict=True):
            held.keep(len(data) if isinstance(data, bytes) else 0)
        begun.reverse()
        for reference, held in page:
            held.is_due = True
            yield self._whole(reference, begun.pop(), held), held

    def _whole(self, reference: str, data: Any, held: ImageReservation) -> Fetched:
        """From its first piece, which is mostly all of it."""
        if not isinstance(data, bytes) or not data:
            return _lost(reference)
        if len(data) < PIECE_BYTES and len(data) <= self._max_bytes:
            return data
        # It is read anew: who waits for room must hold nothing that others wait for.
        del data
        held.release()
        try:
            return self._large(self._keys.blob(reference), held) or _lost(reference)
        except ItemRejected as refusal:
            return _refused(reference, refusal)

    def _large(self, key: str, held: ImageReservation) -> bytes:
        size: Any = self._redis.strlen(key)
        places = range(0, size, PIECE_BYTES)
        pieces: Iterator[Any] = (
            self._redis.getrange(key, at, at + PIECE_BYTES - 1) for at in places
        )
        return read_within_budget(
            pieces, held, self._max_bytes, piece_bytes=READING_BYTES, expected_bytes=size
        )


def _refused(reference: str, refusal: ItemRejected) -> ItemRejected:
    return ItemRejected(refusal.code, f"{reference}: {refusal}")


def _lost(reference: str) -> ItemRejected:
    return ItemRejected(
        ErrorCode.IMAGE_UNREACHABLE,
        f"{reference}: not in Redis; uploads are kept for a time only: submit the image again",
    )
