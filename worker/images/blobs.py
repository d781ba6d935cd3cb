"""Blobs: images uploaded to Redis. Small blobs are read in pages, large ones in pieces."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final

import redis

from producer.contract import ErrorCode
from producer.ledger.keys import Keys
from worker.errors import ItemRejected
from worker.images.image_budget import (
    FetchResult,
    ImageBudget,
    ImageReservation,
    read_within_budget,
)

#: Blobs read in one round trip; all of them are in memory at the same time.
BLOB_PAGE: Final = 8
#: Bytes of one blob that are read in one round trip.
PIECE_BYTES: Final = 1 << 20
#: Memory to read a piece: the client buffers it and copies it twice.
READING_BYTES: Final = 3 * PIECE_BYTES


class Blobs:
    """A reader of blobs; thread-safe."""

    def __init__(
        self, client: redis.Redis, keys: Keys, budget: ImageBudget, max_bytes: int
    ) -> None:
        self._redis = client
        self._keys = keys
        self._budget = budget
        self._max_bytes = max_bytes

    def get(
        self, references: Sequence[str], deadline: float | None = None
    ) -> Generator[tuple[FetchResult, ImageReservation]]:
        """Yield each blob, lazily and in order, with its reservation.

        The caller releases the reservation after use.
        """
        remaining = list(reversed(references))
        while remaining:
            reservation = self._budget.reserve_due(deadline)
            try:
                reservation.grow(READING_BYTES, READING_BYTES)
            except ItemRejected as error:
                yield _with_reference(remaining.pop(), error), reservation
                continue
            page = [reservation, *self._reserve_further(min(BLOB_PAGE, len(remaining)) - 1)]
            try:
                yield from self._page([(remaining.pop(), reserved) for reserved in page])
            finally:
                for reservation in page:
                    reservation.release()

    def _reserve_further(self, count: int) -> Iterator[ImageReservation]:
        """Yield up to `count` reservations while memory is free."""
        for _ in range(count):
            reservation = self._budget.reserve_prefetch(READING_BYTES)
            if reservation is None:
                return
            yield reservation

    def _page(
        self, page: Sequence[tuple[str, ImageReservation]]
    ) -> Iterator[tuple[FetchResult, ImageReservation]]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for reference, _ in page:
                pipeline.getrange(self._keys.blob(reference), 0, PIECE_BYTES - 1)
            # A key that is not a string yields an error instead of a piece.
            first_pieces: list[Any] = pipeline.execute(raise_on_error=False)
        for (_, reservation), piece in zip(page, first_pieces, strict=True):
            reservation.shrink(len(piece) if isinstance(piece, bytes) else 0)
        first_pieces.reverse()
        for reference, reservation in page:
            reservation.is_due = True
            yield self._complete(reference, first_pieces.pop(), reservation), reservation

    def _complete(self, reference: str, piece: Any, reservation: ImageReservation) -> FetchResult:
        """Return the blob that begins with `piece`, which for most blobs is complete."""
        if not isinstance(piece, bytes) or not piece:
            return _missing(reference)
        if len(piece) < PIECE_BYTES and len(piece) <= self._max_bytes:
            return piece
        # Read again from the start: a thread must release its memory before it waits for more.
        del piece
        reservation.release()
        try:
            return self._read_large(self._keys.blob(reference), reservation) or _missing(reference)
        except ItemRejected as error:
            return _with_reference(reference, error)

    def _read_large(self, key: str, reservation: ImageReservation) -> bytes:
        size: Any = self._redis.strlen(key)
        pieces: Iterator[Any] = (
            self._redis.getrange(key, start, start + PIECE_BYTES - 1)
            for start in range(0, size, PIECE_BYTES)
        )
        return read_within_budget(
            pieces, reservation, self._max_bytes, piece_bytes=READING_BYTES, expected_bytes=size
        )


def _with_reference(reference: str, error: ItemRejected) -> ItemRejected:
    return ItemRejected(error.code, f"{reference}: {error}")


def _missing(reference: str) -> ItemRejected:
    return ItemRejected(
        ErrorCode.IMAGE_UNREACHABLE,
        f"{reference}: not in Redis: uploads expire; submit the image again",
    )
