"""From image references to bytes: blobs from Redis, URLs from their hosts, objects from their
stores, files under one root.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from pathlib import Path
from socket import getaddrinfo
from typing import Final

import redis

from config.stores import is_store
from producer import contract
from producer.contract import ErrorCode
from producer.ledger.keys import Keys
from producer.net.address_policy import AddressPolicy
from producer.net.host_limiter import HostLimiter
from producer.net.http_client import Resolve, host_of
from producer.net.redact import redact_url
from worker.errors import ItemRejected
from worker.images.blobs import Blobs
from worker.images.files import Files
from worker.images.http import HttpImages
from worker.images.image_budget import Fetched, ImageBudget, ImageReservation, NoCapacity
from worker.images.memory_budget import BUDGET_BYTES
from worker.images.prefetch import Prefetcher
from worker.images.stores import Stores, store_of

__all__ = ["FETCH_THREADS", "PER_HOST", "Fetched", "Fetcher"]

#: URLs and objects fetched at once by one consumer.
FETCH_THREADS: Final = 32
#: Of them, those of one host, unless settings say another number: a host that is slow or silent
#: must leave threads to the others.
PER_HOST: Final = 8
_NO_PREFIX: Final = Keys()


class Fetcher:
    """Resolves references; thread-safe. Raises nothing that a reference could cause."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        image_root: Path | None,
        max_bytes: int,
        timeout_s: float,
        guard: AddressPolicy,
        stores: Sequence[str] = (),
        per_host: int = PER_HOST,
        keys: Keys = _NO_PREFIX,
        room_bytes: int = BUDGET_BYTES,
        resolve: Resolve = getaddrinfo,
    ) -> None:
        self._room = ImageBudget(room_bytes)
        self._blobs = Blobs(client, keys, self._room, max_bytes)
        self._files = Files(image_root, max_bytes)
        self._turns: HostLimiter[Fetched | NoCapacity] = HostLimiter(
            FETCH_THREADS, per_host, "fetch"
        )
        self._hosts = HttpImages(
            FETCH_THREADS, timeout_s=timeout_s, max_bytes=max_bytes, guard=guard, resolve=resolve
        )
        self._stores = Stores(
            stores, connections=FETCH_THREADS, timeout_s=timeout_s, max_bytes=max_bytes
        )

    def close(self) -> None:
        """Drop connections and what is still being fetched."""
        self._turns.close()
        self._hosts.close()
        self._stores.close()

    def fetch(self, references: Sequence[str], deadline: float | None = None) -> Generator[Fetched]:
        """The bytes behind each reference, in order: those from elsewhere side by side, blobs
        page by page. Who asks for the next one has used the last.

        What fails comes back as a Refused; so does an image from elsewhere that is not there by
        the deadline, which is on the monotonic clock. All together are in memory with no more than
        `room_bytes`, unless one alone is larger.
        """
        blobs = self._blobs.get([one for one in references if contract.is_blob(one)], deadline)
        far = [one for one in references if _is_far(one)]
        with closing(blobs), closing(Prefetcher(far, self._room, self._begin, deadline)) as line:
            line.look_ahead()
            for reference in references:
                # Not kept in a variable: an image must be gone before the next is waited for.
                if contract.is_blob(reference):
                    yield from _used(*next(blobs))
                elif _is_far(reference):
                    yield from _used(*line.next())
                else:
                    yield from self._near(reference, self._room.for_due(deadline))

    def _begin(self, reference: str, held: ImageReservation) -> Future[Fetched | NoCapacity]:
        stored = is_store(reference)
        get = partial(self._stores.get if stored else self._hosts.get, reference, held)
        host = store_of(reference) if stored else host_of(reference) or reference
        return self._turns.submit(host, partial(_guarded, reference, get))

    def _near(self, reference: str, held: ImageReservation) -> Iterator[Fetched]:
        return _used(_guarded(reference, partial(self._read, reference, held)), held)

    def _read(self, reference: str, held: ImageReservation) -> bytes:
        if _scheme(reference) == "file":
            return self._files.get(reference, held)
        about = "an image is https://…, blob:<sha256>, file:<path> or in a store, as s3://…"
        raise ItemRejected(ErrorCode.IMAGE_BLOCKED, about)


def _scheme(reference: str) -> str:
    return reference.partition(":")[0].lower()


def _is_far(reference: str) -> bool:
    return is_store(reference) or (
        _scheme(reference) in ("http", "https") and "://" in reference[:8]
    )


def _used(fetched: Fetched | NoCapacity, held: ImageReservation) -> Iterator[Fetched]:
    """One that is due, until it has been used."""
    try:
        assert not isinstance(fetched, NoCapacity)
        yield fetched
    finally:
        held.release()


def _guarded(reference: str, read: Callable[[], bytes]) -> Fetched | NoCapacity:
    """What it reads, or why it cannot."""
    try:
        return read()
    except NoCapacity:
        # Another one, without the traceback, which still has what was read.
        return NoCapacity()
    except ItemRejected as error:
        return ItemRejected(error.code, f"{redact_url(reference)}: {error}")
    except Exception as error:
        # Not what it says: nobody knows what it would show.
        about = f"{redact_url(reference)}: {type(error).__name__}"
        return ItemRejected(ErrorCode.IMAGE_UNREACHABLE, about)
