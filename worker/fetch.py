"""From image references to bytes: blobs from Redis, URLs from their hosts, objects from their
stores, files under one root.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice
from pathlib import Path
from socket import getaddrinfo
from typing import Any, Final

import redis

from config.stores import is_store
from producer import contract
from producer.contract import ErrorCode
from producer.keys import Keys
from producer.network import Guard, Resolve
from producer.shown import shown
from producer.turns import Turns
from worker.files import Files
from worker.hosts import Hosts, host_of
from worker.refused import Refused
from worker.stores import Stores, store_of

#: URLs and objects fetched at once by one consumer.
FETCH_THREADS: Final = 32
#: Of them, those of one host, unless settings say another number: a host that is slow or silent
#: must leave threads to the others.
PER_HOST: Final = 8
#: Blobs read from Redis in one round trip: they are in memory together.
BLOB_PAGE: Final = 8
#: Seconds beyond a deadline in which a thread says itself what the trouble was.
SLACK_S: Final = 1.0

Fetched = bytes | Refused

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
        guard: Guard,
        stores: Sequence[str] = (),
        per_host: int = PER_HOST,
        keys: Keys = _NO_PREFIX,
        resolve: Resolve = getaddrinfo,
    ) -> None:
        self._redis = client
        self._keys = keys
        self._files = Files(image_root, max_bytes)
        self._turns: Turns[Fetched] = Turns(FETCH_THREADS, per_host, "fetch")
        self._hosts = Hosts(
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

    def fetch(self, references: Sequence[str], deadline: float | None = None) -> Iterator[Fetched]:
        """The bytes behind each reference, in order: those from elsewhere side by side, blobs
        page by page.

        What fails comes back as a Refused; so does an image from elsewhere that is not there by
        the deadline, which is on the monotonic clock.
        """
        far = self._far([one for one in references if _is_far(one)], deadline)
        blobs = self._blobs(one for one in references if contract.is_blob(one))
        for reference in references:
            if contract.is_blob(reference):
                yield next(blobs)
            elif _is_far(reference):
                yield next(far)
            else:
                yield _guarded(reference, partial(self._near, reference))

    def _blobs(self, references: Iterable[str]) -> Iterator[Fetched]:
        """Lazily: a chunk of large images must not be in memory all at once."""
        wanted = iter(references)
        while page := list(islice(wanted, BLOB_PAGE)):
            held: deque[Any] = deque(self._redis.mget([self._keys.blob(one) for one in page]))
            for reference in page:
                data = held.popleft()
                yield _lost_blob(reference) if data is None else data

    def _far(self, references: Sequence[str], deadline: float | None) -> Iterator[Fetched]:
        """All begun now, each once."""
        begun = {one: self._begun(one, deadline) for one in dict.fromkeys(references)}
        return _in_turn(deque((one, begun[one]) for one in references), deadline)

    def _begun(self, reference: str, deadline: float | None) -> Future[Fetched]:
        stored = is_store(reference)
        get = partial(self._stores.get if stored else self._hosts.get, reference, deadline)
        host = store_of(reference) if stored else host_of(reference)
        return self._turns.submit(host, partial(_guarded, reference, get))

    def _near(self, reference: str) -> bytes:
        if _scheme(reference) == "file":
            return self._files.get(reference)
        about = "an image is https://…, blob:<sha256>, file:<path> or in a store, as s3://…"
        raise Refused(ErrorCode.IMAGE_BLOCKED, about)


def _scheme(reference: str) -> str:
    return reference.partition(":")[0].lower()


def _is_far(reference: str) -> bool:
    return is_store(reference) or (
        _scheme(reference) in ("http", "https") and "://" in reference[:8]
    )


def _guarded(reference: str, read: Callable[[], bytes]) -> Fetched:
    """What it reads, or why it cannot."""
    try:
        return read()
    except Refused as error:
        return Refused(error.code, f"{shown(reference)}: {error}")
    except Exception as error:
        # Not what it says: nobody knows what it would show.
        about = f"{shown(reference)}: {type(error).__name__}"
        return Refused(ErrorCode.IMAGE_UNREACHABLE, about)


def _in_turn(
    waiting: deque[tuple[str, Future[Fetched]]], deadline: float | None
) -> Iterator[Fetched]:
    """Each when it is there; nothing holds an image any longer that has been handed on."""
    try:
        while waiting:
            yield _awaited(*waiting.popleft(), deadline)
    finally:
        # Whoever stops early wants none of the others.
        for _, future in waiting:
            future.cancel()


def _awaited(reference: str, future: Future[Fetched], deadline: float | None) -> Fetched:
    """Its bytes, or an error in time: it may still wait for a thread, or for its host's address."""
    wait_s = None if deadline is None else max(0.0, deadline + SLACK_S - time.monotonic())
    try:
        return future.result(wait_s)
    except TimeoutError:
        future.cancel()
        about = (
            f"{shown(reference)}: the deadline passed before it had its turn, or its host's address"
        )
        return Refused(ErrorCode.DEADLINE_EXCEEDED, about)


def _lost_blob(reference: str) -> Refused:
    return Refused(
        ErrorCode.IMAGE_UNREACHABLE,
        f"{reference}: not in Redis; uploads are kept for a time only: submit the image again",
    )
