"""From image references to bytes: blobs from Redis, URLs from their hosts, files under one root."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import redis

from producer import contract
from producer.contract import ErrorCode
from producer.keys import Keys
from worker.hosts import Hosts, bounded
from worker.refused import Refused

#: URLs fetched at once by one consumer.
FETCH_THREADS: Final = 32
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
        private_hosts: bool,
        keys: Keys = _NO_PREFIX,
    ) -> None:
        self._redis = client
        self._keys = keys
        self._root = None if image_root is None else image_root.resolve()
        self._max_bytes = max_bytes
        self._pool = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="fetch")
        self._hosts = Hosts(
            FETCH_THREADS, timeout_s=timeout_s, max_bytes=max_bytes, private_hosts=private_hosts
        )

    def close(self) -> None:
        """Drop connections and what is still being fetched."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._hosts.close()

    def fetch(self, references: Sequence[str], deadline: float | None = None) -> Iterator[Fetched]:
        """The bytes behind each reference, in order: URLs side by side, blobs page by page.

        What fails comes back as a Refused; so does a URL that is not there by the deadline, which
        is on the monotonic clock.
        """
        urls = self._urls([one for one in references if _is_url(one)], deadline)
        blobs = self._blobs(one for one in references if contract.is_blob(one))
        for reference in references:
            if contract.is_blob(reference):
                yield next(blobs)
            elif _is_url(reference):
                yield next(urls)
            else:
                yield _guarded(reference, partial(self._read_file, reference))

    def _blobs(self, references: Iterable[str]) -> Iterator[Fetched]:
        """Lazily: a chunk of large images must not be in memory all at once."""
        wanted = iter(references)
        while page := list(islice(wanted, BLOB_PAGE)):
            held: deque[Any] = deque(self._redis.mget([self._keys.blob(one) for one in page]))
            for reference in page:
                data = held.popleft()
                yield _lost_blob(reference) if data is None else data

    def _urls(self, urls: Sequence[str], deadline: float | None) -> Iterator[Fetched]:
        """All begun now, each once."""
        begun = {
            url: self._pool.submit(_guarded, url, partial(self._hosts.get, url, deadline))
            for url in dict.fromkeys(urls)
        }
        return _in_turn(deque((url, begun[url]) for url in urls), deadline)

    def _read_file(self, reference: str) -> bytes:
        parts = urlsplit(reference)
        if parts.scheme != "file":
            about = "an image is https://…, blob:<sha256> or file:<path>"
            raise Refused(ErrorCode.IMAGE_BLOCKED, about)
        if self._root is None:
            about = "this worker reads no files; BLIPLINE_IMAGE_ROOT allows a directory"
            raise Refused(ErrorCode.IMAGE_BLOCKED, about)
        path = (self._root / unquote(parts.path)).resolve()
        if not path.is_relative_to(self._root):
            raise Refused(ErrorCode.IMAGE_BLOCKED, "outside the image root")
        if not path.is_file():
            raise Refused(ErrorCode.IMAGE_UNREACHABLE, "no such file")
        with path.open("rb") as file:
            return bounded(iter(lambda: file.read(1 << 16), b""), self._max_bytes)


def _is_url(reference: str) -> bool:
    return reference.startswith(("http://", "https://"))


def _guarded(reference: str, read: Callable[[], bytes]) -> Fetched:
    """What it reads, or why it cannot."""
    try:
        return read()
    except Refused as error:
        return Refused(error.code, f"{reference}: {error}")
    except Exception as error:
        about = f"{reference}: {type(error).__name__}: {error}"
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


def _awaited(url: str, future: Future[Fetched], deadline: float | None) -> Fetched:
    """Its bytes, or an error in time: it may still wait for a thread, or for its host's address."""
    wait_s = None if deadline is None else max(0.0, deadline + SLACK_S - time.monotonic())
    try:
        return future.result(wait_s)
    except TimeoutError:
        future.cancel()
        about = f"{url}: the deadline passed before it had its turn, or its host's address"
        return Refused(ErrorCode.DEADLINE_EXCEEDED, about)


def _lost_blob(reference: str) -> Refused:
    return Refused(
        ErrorCode.IMAGE_UNREACHABLE,
        f"{reference}: not in Redis; uploads are kept for a time only: submit the image again",
    )
