"""The image fetcher: blobs from Redis, URLs (SSRF guard, per-host limit), object stores, files."""

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
from worker.images.image_budget import FetchResult, ImageBudget, ImageReservation, NoCapacity
from worker.images.memory_budget import BUDGET_BYTES
from worker.images.prefetch import Prefetcher
from worker.images.stores import Stores, store_of

__all__ = ["FETCH_THREADS", "PER_HOST", "FetchResult", "Fetcher"]

#: URLs and objects that one consumer fetches concurrently.
FETCH_THREADS: Final = 32
#: Default limit per host, so that a slow or silent host does not occupy all threads.
PER_HOST: Final = 8
_NO_PREFIX: Final = Keys()


class Fetcher:
    """A reader of image references; thread-safe. References raise no exception."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        image_root: Path | None,
        max_bytes: int,
        timeout_s: float,
        policy: AddressPolicy,
        stores: Sequence[str] = (),
        per_host: int = PER_HOST,
        keys: Keys = _NO_PREFIX,
        budget_bytes: int = BUDGET_BYTES,
        resolve: Resolve = getaddrinfo,
    ) -> None:
        self.max_bytes = max_bytes
        self._budget = ImageBudget(budget_bytes)
        self._blobs = Blobs(client, keys, self._budget, max_bytes)
        self._files = Files(image_root, max_bytes)
        self._limiter: HostLimiter[FetchResult | NoCapacity] = HostLimiter(
            FETCH_THREADS, per_host, "fetch"
        )
        self._http = HttpImages(
            FETCH_THREADS, timeout_s=timeout_s, max_bytes=max_bytes, policy=policy, resolve=resolve
        )
        self._stores = Stores(
            stores, connections=FETCH_THREADS, timeout_s=timeout_s, max_bytes=max_bytes
        )

    def close(self) -> None:
        """Close all connections and cancel fetches in progress."""
        self._limiter.close()
        self._http.close()
        self._stores.close()

    def fetch(
        self, references: Sequence[str], deadline: float | None = None
    ) -> Generator[FetchResult]:
        """Yield the bytes of each reference, in order: remote ones concurrently, blobs in pages.

        The caller must have used an image before it requests the next. A reference that fails
        yields an ItemRejected, and so does a remote image that misses the deadline, which is on the
        monotonic clock. All images together take at most `budget_bytes` of memory, except a single
        image that is larger.
        """
        blobs = self._blobs.get([ref for ref in references if contract.is_blob(ref)], deadline)
        remote = [reference for reference in references if _is_remote(reference)]
        prefetcher = Prefetcher(remote, self._budget, self._start_fetch, deadline)
        with closing(blobs), closing(prefetcher):
            prefetcher.fill()
            for reference in references:
                # Not assigned to a variable: an image must be freed before the wait for the next.
                if contract.is_blob(reference):
                    yield from _release_after_use(*next(blobs))
                elif _is_remote(reference):
                    yield from _release_after_use(*prefetcher.next())
                else:
                    yield from self._fetch_local(reference, self._budget.reserve_due(deadline))

    def _start_fetch(
        self, reference: str, reservation: ImageReservation
    ) -> Future[FetchResult | NoCapacity]:
        in_store = is_store(reference)
        get = partial(self._stores.get if in_store else self._http.get, reference, reservation)
        host = store_of(reference) if in_store else host_of(reference) or reference
        return self._limiter.submit(host, partial(_result_of, reference, get))

    def _fetch_local(self, reference: str, reservation: ImageReservation) -> Iterator[FetchResult]:
        result = _result_of(reference, partial(self._read, reference, reservation))
        return _release_after_use(result, reservation)

    def _read(self, reference: str, reservation: ImageReservation) -> bytes:
        if _scheme(reference) == "file":
            return self._files.get(reference, reservation)
        message = "an image is https://…, blob:<sha256>, file:<path> or an object, as s3://…"
        raise ItemRejected(ErrorCode.IMAGE_BLOCKED, message)


def _scheme(reference: str) -> str:
    return reference.partition(":")[0].lower()


def _is_remote(reference: str) -> bool:
    return is_store(reference) or (
        _scheme(reference) in ("http", "https") and "://" in reference[:8]
    )


def _release_after_use(
    result: FetchResult | NoCapacity, reservation: ImageReservation
) -> Iterator[FetchResult]:
    """Yield the due image, and release its memory afterwards."""
    try:
        assert not isinstance(result, NoCapacity)
        yield result
    finally:
        reservation.release()


def _result_of(reference: str, read: Callable[[], bytes]) -> FetchResult | NoCapacity:
    """Return the bytes that `read` returns, or the error that it raises."""
    try:
        return read()
    except NoCapacity:
        # A new exception, because the old one's traceback references the bytes read so far.
        return NoCapacity()
    except ItemRejected as error:
        return ItemRejected(error.code, f"{redact_url(reference)}: {error}")
    except Exception as error:
        # The message of an unexpected exception may contain secrets, so it is omitted.
        message = f"{redact_url(reference)}: {type(error).__name__}"
        return ItemRejected(ErrorCode.IMAGE_UNREACHABLE, message)
