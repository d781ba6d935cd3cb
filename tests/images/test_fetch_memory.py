"""What is fetched at once, by all threads of a consumer together, stays within its room."""

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
#: What a process grows by beside its images: threads, connections, Python's own.
SLACK_BYTES = 48 * MB
#: Seconds that a process may take; far more than it does.
TOO_LONG_S = 80
WAIT_S = 30


class Host(BaseHTTPRequestHandler):
    """Answers `/<letter>/<bytes>` with so many of the letter; `/open/…` without saying how many."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        self.asked[self.path] += 1
        *kind, letter, size = self.path.partition("?")[0].strip("/").split("/")
        self.send_response(200)
        if kind:
            self.close_connection = True
        else:
            self.send_header("Content-Length", size)
        self.end_headers()
        left = int(size)
        # The client may have heard enough.
        with suppress(OSError):
            while left:
                left -= self.wfile.write(letter.encode() * min(left, MB))

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@pytest.fixture
def host() -> Iterator[str]:
    Host.asked.clear()
    with serving(Server(("127.0.0.1", 0), Host)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def hoarded(redis_url: str, chunks: list[list[str]], room_bytes: int) -> dict[str, Any]:
    """What a process of its own says of fetching these chunks at once."""
    asked = {
        "redis_url": redis_url,
        "chunks": chunks,
        "room_bytes": room_bytes,
        "max_bytes": 64 * MB,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.images.hoarding"],
        input=json.dumps(asked),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TOO_LONG_S,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["left"] == [0, 0]
    return report


def expected(chunk: list[str]) -> list[str]:
    parts = [url.partition("?")[0].split("/") for url in chunk]
    return [f"{size} of {letter}" for *_, letter, size in parts]


@pytest.mark.parametrize("form", ["", "open/"])
def test_many_large_images_of_a_host_stay_within_the_room(
    redis_url: str, host: str, form: str
) -> None:
    chunks = [
        [f"{host}/{form}{letter}/{40 * MB}?{place}" for place, letter in enumerate("abc")]
        + [f"{host}/x/100", f"{host}/y/200"]
        for _ in range(6)
    ]
    report = hoarded(redis_url, chunks, 160 * MB)
    assert report["outcomes"] == [expected(chunk) for chunk in chunks]
    # All 18 at once would be 720 MB.
    assert report["grown"] < 160 * MB + SLACK_BYTES


def test_many_large_blobs_stay_within_the_room(redis_url: str, connection: redis.Redis) -> None:
    sizes = {"a": 40, "b": 1, "c": 40, "d": 3, "e": 40, "f": 1, "g": 40, "h": 0}
    references = [stored(connection, letter, size * MB + 7) for letter, size in sizes.items()]
    report = hoarded(redis_url, [references] * 8, 160 * MB)
    told = [f"{size * MB + 7} of {letter}" for letter, size in sizes.items()]
    assert report["outcomes"] == [told] * 8
    # All at once would be 1,300 MB.
    assert report["grown"] < 160 * MB + SLACK_BYTES


def test_images_that_are_larger_than_all_the_room_are_read_one_by_one(
    redis_url: str, connection: redis.Redis, host: str
) -> None:
    blob = stored(connection, "b", 20 * MB)
    urls = [f"{host}/a/{20 * MB}", f"{host}/open/c/{20 * MB}", f"{host}/d/5"]
    chunk = [urls[0], blob, urls[1], blob, urls[2], urls[0]]
    report = hoarded(redis_url, [chunk] * 4, 8 * MB)
    a, b, c, d = f"{20 * MB} of a", f"{20 * MB} of b", f"{20 * MB} of c", "5 of d"
    assert report["outcomes"] == [[a, b, c, b, d, a]] * 4
    assert report["grown"] < 30 * MB + SLACK_BYTES


def stored(connection: redis.Redis, letter: str, size: int) -> str:
    data = letter.encode() * size
    reference = f"blob:{hashlib.sha256(data).hexdigest()}"
    connection.set(Keys().blob(reference), data)
    return reference


@contextmanager
def fetching(connection: redis.Redis, **settings: Any) -> Iterator[Fetcher]:
    wanted: dict[str, Any] = {
        "image_root": None,
        "max_bytes": 2 * MB,
        "timeout_s": 10.0,
        "guard": AddressPolicy(allow=["127.0.0.0/8"]),
        "room_bytes": 4 * MB,
    }
    fetcher = Fetcher(connection, **{**wanted, **settings})
    try:
        yield fetcher
    finally:
        fetcher.close()


def taken(fetcher: Fetcher) -> int:
    return fetcher._room.early._taken + fetcher._room.due._taken


def eventually(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.01)


@contextmanager
def crowded(fetcher: Fetcher) -> Iterator[None]:
    """No room is left until this ends."""
    early, due = fetcher._room.early, fetcher._room.due
    assert early.take_now(2 * MB)
    assert due.take_now(2 * MB)
    try:
        yield
    finally:
        early.give(2 * MB)
        due.give(2 * MB)


def test_who_waits_for_room_waits_no_longer_than_its_deadline(
    connection: redis.Redis, host: str, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"of a file")
    references = [f"{host}/a/5", stored(connection, "b", 5), "file:a"]
    with fetching(connection, image_root=tmp_path) as fetcher:
        with crowded(fetcher):
            refused = list(fetcher.fetch(references, time.monotonic() + 0.5))
        assert taken(fetcher) == 0
        for reference, one in zip(references, refused, strict=True):
            assert isinstance(one, ItemRejected)
            assert one.code is ErrorCode.DEADLINE_EXCEEDED
            assert str(one).startswith(f"{reference}: the deadline passed before ")
        # With room again all are there.
        assert list(fetcher.fetch(references)) == [b"aaaaa", b"bbbbb", b"of a file"]


def test_waiting_for_room_is_not_the_hosts_silence(connection: redis.Redis, host: str) -> None:
    with fetching(connection, timeout_s=0.3) as fetcher:
        got: list[Any] = []
        with crowded(fetcher):
            urls = [f"{host}/a/{MB}"]
            thread = threading.Thread(target=lambda: got.extend(fetcher.fetch(urls)))
            thread.start()
            eventually(lambda: len(fetcher._room.due._waiting) == 1)
            time.sleep(0.6)
        thread.join(WAIT_S)
        assert got == [b"a" * MB]
        assert taken(fetcher) == 0


def test_a_chunk_that_is_given_up_gives_its_room_back(connection: redis.Redis, host: str) -> None:
    blobs = [stored(connection, letter, 1000) for letter in "abcd"]
    urls = [f"{host}/{letter}/{100_000}" for letter in "efghijkl"]
    with fetching(connection) as fetcher:
        for references in ([*blobs, *urls], [*urls, *blobs]):
            images = fetcher.fetch(references)
            assert isinstance(next(images), bytes)
            assert taken(fetcher) > 0
            images.close()
            eventually(lambda: taken(fetcher) == 0)


def test_an_error_gives_its_room_back(connection: redis.Redis, host: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3 * MB))
    references = [
        f"{host}/a/{3 * MB}",
        f"{host}/open/b/{3 * MB}",
        "http://127.0.0.1:1/c",
        stored(connection, "d", 3 * MB),
        "blob:" + "0" * 64,
        "file:large",
        "file:missing",
        f"{host}/e/5",
    ]
    with fetching(connection, image_root=tmp_path, timeout_s=1.0) as fetcher:
        *bad, good = fetcher.fetch(references)
        assert [one.code.value if isinstance(one, ItemRejected) else "" for one in bad] == [
            "image_too_large",
            "image_too_large",
            "image_unreachable",
            "image_too_large",
            "image_unreachable",
            "image_too_large",
            "image_unreachable",
        ]
        assert good == b"eeeee"
        assert taken(fetcher) == 0


def test_what_is_used_holds_its_room_and_no_longer(connection: redis.Redis, host: str) -> None:
    with fetching(connection) as fetcher:
        images = fetcher.fetch([f"{host}/a/{MB}"])
        assert len(bytes(next(images))) == MB  # type: ignore[arg-type]
        assert taken(fetcher) == MB
        assert next(images, None) is None
        assert taken(fetcher) == 0


def test_images_that_have_room_are_asked_for_once(connection: redis.Redis, host: str) -> None:
    urls = [f"{host}/a/{1000 + number}" for number in range(300)]
    with fetching(connection) as fetcher:
        assert [len(one) for one in fetcher.fetch(urls) if isinstance(one, bytes)] == [
            1000 + number for number in range(300)
        ]
    assert set(Host.asked.values()) == {1}
