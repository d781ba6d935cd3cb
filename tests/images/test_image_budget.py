"""All threads of a consumer together fetch within its memory budget."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import redis

from demo.stack import ROOT
from producer.contract import ErrorCode
from producer.ledger.keys import Keys
from producer.net.address_policy import AddressPolicy
from tests.serving import serving
from worker.errors import ItemRejected
from worker.images.fetcher import Fetcher

MB = 1 << 20
#: Growth of a process beside its images: threads, connections, Python itself.
SLACK_BYTES = 48 * MB
#: Maximum seconds of a process; far more than it takes.
TIMEOUT_S = 80
WAIT_S = 30


class Host(BaseHTTPRequestHandler):
    """A host that answers `/<letter>/<bytes>` with letters; `/open/…` without a length."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        self.requests[self.path] += 1
        *kind, letter, size = self.path.partition("?")[0].strip("/").split("/")
        self.send_response(200)
        if kind:
            self.close_connection = True
        else:
            self.send_header("Content-Length", size)
        self.end_headers()
        remaining = int(size)
        # The client may have closed the connection.
        with suppress(OSError):
            while remaining:
                remaining -= self.wfile.write(letter.encode() * min(remaining, MB))

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@pytest.fixture
def host() -> Iterator[str]:
    Host.requests.clear()
    with serving(Server(("127.0.0.1", 0), Host)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def fetch_in_process(redis_url: str, chunks: list[list[str]], budget_bytes: int) -> dict[str, Any]:
    """Fetch these chunks concurrently in a process of its own, and return its report."""
    request = {
        "redis_url": redis_url,
        "chunks": chunks,
        "budget_bytes": budget_bytes,
        "max_bytes": 64 * MB,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.images.fetch_process"],
        input=json.dumps(request),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["reserved"] == [0, 0]
    return report


def expected(chunk: list[str]) -> list[str]:
    parts = [url.partition("?")[0].split("/") for url in chunk]
    return [f"{size} of {letter}" for *_, letter, size in parts]


@pytest.mark.parametrize("form", ["", "open/"])
def test_many_large_images_of_a_host_stay_within_the_budget(
    redis_url: str, host: str, form: str
) -> None:
    chunks = [
        [f"{host}/{form}{letter}/{12 * MB}?{index}" for index, letter in enumerate("abc")]
        + [f"{host}/x/100", f"{host}/y/200"]
        for _ in range(6)
    ]
    report = fetch_in_process(redis_url, chunks, 48 * MB)
    assert report["outcomes"] == [expected(chunk) for chunk in chunks]
    # All 18 at once would be 216 MB.
    assert report["grown"] < 48 * MB + SLACK_BYTES


def test_many_large_blobs_stay_within_the_budget(redis_url: str, connection: redis.Redis) -> None:
    sizes = {"a": 10, "b": 1, "c": 10, "d": 3, "e": 10, "f": 1, "g": 10, "h": 0}
    references = [store_blob(connection, letter, size * MB + 7) for letter, size in sizes.items()]
    report = fetch_in_process(redis_url, [references] * 6, 40 * MB)
    outcomes = [f"{size * MB + 7} of {letter}" for letter, size in sizes.items()]
    assert report["outcomes"] == [outcomes] * 6
    # All at once would be 270 MB.
    assert report["grown"] < 40 * MB + SLACK_BYTES


def test_images_larger_than_the_whole_budget_are_read_one_by_one(
    redis_url: str, connection: redis.Redis, host: str
) -> None:
    blob = store_blob(connection, "b", 20 * MB)
    urls = [f"{host}/a/{20 * MB}", f"{host}/open/c/{20 * MB}", f"{host}/d/5"]
    chunk = [urls[0], blob, urls[1], blob, urls[2], urls[0]]
    report = fetch_in_process(redis_url, [chunk] * 2, 8 * MB)
    a, b, c, d = f"{20 * MB} of a", f"{20 * MB} of b", f"{20 * MB} of c", "5 of d"
    assert report["outcomes"] == [[a, b, c, b, d, a]] * 2
    assert report["grown"] < 30 * MB + SLACK_BYTES


def store_blob(connection: redis.Redis, letter: str, size: int) -> str:
    data = letter.encode() * size
    reference = f"blob:{hashlib.sha256(data).hexdigest()}"
    connection.set(Keys().blob(reference), data)
    return reference


@contextmanager
def fetching(connection: redis.Redis, **settings: Any) -> Iterator[Fetcher]:
    defaults: dict[str, Any] = {
        "image_root": None,
        "max_bytes": 2 * MB,
        "timeout_s": 10.0,
        "policy": AddressPolicy(allow=["127.0.0.0/8"]),
        "budget_bytes": 4 * MB,
    }
    fetcher = Fetcher(connection, **{**defaults, **settings})
    try:
        yield fetcher
    finally:
        fetcher.close()


def reserved_bytes(fetcher: Fetcher) -> int:
    return fetcher._budget.prefetch._used + fetcher._budget.due._used


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def exhausted(fetcher: Fetcher) -> Iterator[None]:
    """Leave no free memory within the block."""
    prefetch, due = fetcher._budget.prefetch, fetcher._budget.due
    assert prefetch.try_acquire(2 * MB)
    assert due.try_acquire(2 * MB)
    try:
        yield
    finally:
        prefetch.release(2 * MB)
        due.release(2 * MB)


def test_a_wait_for_memory_ends_at_the_deadline(
    connection: redis.Redis, host: str, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"of a file")
    references = [f"{host}/a/5", store_blob(connection, "b", 5), "file:a"]
    with fetching(connection, image_root=tmp_path) as fetcher:
        with exhausted(fetcher):
            results = list(fetcher.fetch(references, time.monotonic() + 0.5))
        assert reserved_bytes(fetcher) == 0
        for reference, result in zip(references, results, strict=True):
            assert isinstance(result, ItemRejected)
            assert result.code is ErrorCode.DEADLINE_EXCEEDED
            assert str(result).startswith(f"{reference}: the deadline passed before ")
        # With free memory again all are read.
        assert list(fetcher.fetch(references)) == [b"aaaaa", b"bbbbb", b"of a file"]


def test_a_wait_for_memory_does_not_count_against_the_host(
    connection: redis.Redis, host: str
) -> None:
    with fetching(connection, timeout_s=0.3) as fetcher:
        got: list[Any] = []
        with exhausted(fetcher):
            urls = [f"{host}/a/{MB}"]
            thread = threading.Thread(target=lambda: got.extend(fetcher.fetch(urls)))
            thread.start()
            eventually(lambda: len(fetcher._budget.due._waiters) == 1)
            time.sleep(0.6)
        thread.join(WAIT_S)
        assert got == [b"a" * MB]
        assert reserved_bytes(fetcher) == 0


def test_an_abandoned_chunk_releases_its_memory(connection: redis.Redis, host: str) -> None:
    blobs = [store_blob(connection, letter, 1000) for letter in "abcd"]
    urls = [f"{host}/{letter}/{100_000}" for letter in "efghijkl"]
    with fetching(connection) as fetcher:
        for references in ([*blobs, *urls], [*urls, *blobs]):
            images = fetcher.fetch(references)
            assert isinstance(next(images), bytes)
            assert reserved_bytes(fetcher) > 0
            images.close()
            eventually(lambda: reserved_bytes(fetcher) == 0)


def test_an_error_releases_its_memory(connection: redis.Redis, host: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3 * MB))
    references = [
        f"{host}/a/{3 * MB}",
        f"{host}/open/b/{3 * MB}",
        "http://127.0.0.1:1/c",
        store_blob(connection, "d", 3 * MB),
        "blob:" + "0" * 64,
        "file:large",
        "file:missing",
        f"{host}/e/5",
    ]
    with fetching(connection, image_root=tmp_path, timeout_s=1.0) as fetcher:
        *bad, good = fetcher.fetch(references)
        assert [item.code.value if isinstance(item, ItemRejected) else "" for item in bad] == [
            "image_too_large",
            "image_too_large",
            "image_unreachable",
            "image_too_large",
            "image_unreachable",
            "image_too_large",
            "image_unreachable",
        ]
        assert good == b"eeeee"
        assert reserved_bytes(fetcher) == 0


def test_an_image_holds_its_memory_only_while_it_is_used(
    connection: redis.Redis, host: str
) -> None:
    with fetching(connection) as fetcher:
        images = fetcher.fetch([f"{host}/a/{MB}"])
        assert len(bytes(next(images))) == MB  # type: ignore[arg-type]
        assert reserved_bytes(fetcher) == MB
        assert next(images, None) is None
        assert reserved_bytes(fetcher) == 0


def test_images_that_have_memory_are_requested_once(connection: redis.Redis, host: str) -> None:
    urls = [f"{host}/a/{1000 + number}" for number in range(300)]
    with fetching(connection) as fetcher:
        assert [len(image) for image in fetcher.fetch(urls) if isinstance(image, bytes)] == [
            1000 + number for number in range(300)
        ]
    assert set(Host.requests.values()) == {1}
