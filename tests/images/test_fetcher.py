from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import pytest
import redis

from producer.contract import ErrorCode
from producer.ledger.keys import Keys
from producer.net.address_policy import AddressPolicy
from producer.net.http_client import retry_after_s
from tests.serving import serving
from worker.errors import ItemRejected
from worker.images.blobs import BLOB_PAGE
from worker.images.fetcher import FETCH_THREADS, Fetched, Fetcher
from worker.images.http import MAX_TRIES

NO_PREFIX = Keys()
LOOPBACK = AddressPolicy(allow=["127.0.0.0/8", "::1"])


class Host(BaseHTTPRequestHandler):
    """An image host: each path behaves in its own way."""

    #: When each path was asked for, by the monotonic clock.
    asked: ClassVar[defaultdict[str, list[float]]] = defaultdict(list)
    stop = threading.Event()

    def do_GET(self) -> None:
        self.asked[self.path].append(time.monotonic())
        tries = len(self.asked[self.path])
        if self.path == "/flaky" and tries < 3:
            self._answer(503, b"")
        elif self.path == "/busy" and tries == 1:
            self._answer(429, b"", {"Retry-After": "1"})
        elif self.path == "/busy-until" and tries == 1:
            self._answer(503, b"", {"Retry-After": formatdate(time.time() + 3, usegmt=True)})
        elif self.path == "/closed":
            self._answer(503, b"", {"Retry-After": "7"})
        elif self.path == "/down":
            self._answer(500, b"")
        elif self.path == "/cut" and tries == 1:
            self._answer(200, b"bytes of", {"Content-Length": "13"})
            self.close_connection = True
        elif self.path == "/slow-once" and tries == 1:
            self.stop.wait(60)
        elif self.path == "/moved":
            self._answer(302, b"", {"Location": "/image"})
        elif self.path == "/moved-for-ever":
            self._pour(b"HTTP/1.0 302 Found\r\nLocation: /image\r\n\r\n")
        elif self.path == "/round":
            self._answer(302, b"", {"Location": "/round"})
        elif self.path == "/huge":
            self._answer(200, bytes(5000))
        elif self.path == "/drip":
            self._drip(b"HTTP/1.0 200 OK\r\n\r\n", b".")
        elif self.path.startswith("/drip-headers"):
            self._drip(b"HTTP/1.0 200 OK\r\n", b"X: y\r\n")
        elif self.path == "/missing":
            self._answer(404, b"")
        else:
            self._answer(200, b"bytes of " + self.path.encode())

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        # The client may have heard enough.
        with suppress(OSError):
            self.wfile.write(body)

    def _drip(self, start: bytes, drop: bytes) -> None:
        with suppress(OSError):
            self.wfile.write(start)
            # Less than 100 KiB, the longest header that httpcore reads, in 20 s at least.
            for _ in range(400):
                self.wfile.write(drop)
                self.stop.wait(0.05)

    def _pour(self, start: bytes) -> None:
        with suppress(OSError):
            self.wfile.write(start)
            while not self.stop.is_set():
                self.wfile.write(bytes(1 << 16))

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    #: Connections that may wait to be accepted: all fetch threads come at once.
    request_queue_size = 128


@pytest.fixture
def host() -> Iterator[str]:
    Host.asked.clear()
    Host.stop.clear()
    with serving(Server(("127.0.0.1", 0), Host)) as server:
        yield f"http://127.0.0.1:{server.server_port}"
        Host.stop.set()


@contextmanager
def fetcher(connection: redis.Redis, **settings: Any) -> Iterator[Fetcher]:
    wanted: dict[str, Any] = {
        "image_root": None,
        "max_bytes": 4096,
        "timeout_s": 3.0,
        "guard": LOOPBACK,
    }
    fetcher = Fetcher(connection, **{**wanted, **settings})
    try:
        yield fetcher
    finally:
        fetcher.close()


@pytest.fixture
def fetch(connection: redis.Redis) -> Iterator[Callable[[str], Fetched]]:
    with fetcher(connection) as source:
        yield lambda reference: next(source.fetch([reference]))


def eventually(holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
    ends = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.01)


def stored(connection: redis.Redis, images: Sequence[bytes], keys: Keys = NO_PREFIX) -> list[str]:
    """The references of these images, which are in Redis from now on."""
    references = [f"blob:{hashlib.sha256(image).hexdigest()}" for image in images]
    for reference, image in zip(references, images, strict=True):
        connection.set(keys.blob(reference), image)
    return references


def calls(connection: redis.Redis, command: str) -> int:
    """How often Redis has been given this command."""
    stats: dict[str, Any] = connection.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def code_of(fetched: Fetched) -> ErrorCode:
    assert isinstance(fetched, ItemRejected), fetched
    return fetched.code


def test_references_of_every_kind_come_back_in_order(
    connection: redis.Redis, host: str, tmp_path: Path
) -> None:
    (tmp_path / "a b.png").write_bytes(b"of a file")
    (blob,) = stored(connection, [b"of a blob"])
    with fetcher(connection, image_root=tmp_path) as source:
        wanted = [f"{host}/image", blob, "file:a%20b.png", blob, f"{host}/image"]
        assert list(source.fetch(wanted)) == [
            b"bytes of /image",
            b"of a blob",
            b"of a file",
            b"of a blob",
            b"bytes of /image",
        ]


def test_a_redirect_is_followed(fetch: Callable[[str], Fetched], host: str) -> None:
    assert fetch(f"{host}/moved") == b"bytes of /image"


@pytest.mark.parametrize("path", ["/flaky", "/cut", "/slow-once"])
def test_a_host_in_passing_trouble_is_asked_again(
    connection: redis.Redis, host: str, path: str
) -> None:
    with fetcher(connection, timeout_s=6.0) as source:
        assert list(source.fetch([host + path])) == [b"bytes of " + path.encode()]
    assert len(Host.asked[path]) == (3 if path == "/flaky" else 2)


@pytest.mark.parametrize("path", ["/busy", "/busy-until"])
def test_a_host_is_left_alone_for_as_long_as_it_asks(
    connection: redis.Redis, host: str, path: str
) -> None:
    with fetcher(connection, timeout_s=30.0) as source:
        assert list(source.fetch([host + path])) == [b"bytes of " + path.encode()]
    # A date has whole seconds.
    first, second = Host.asked[path]
    assert second - first > (0.9 if path == "/busy" else 1.9)


def test_a_host_that_asks_for_more_time_than_there_is_is_asked_once(
    fetch: Callable[[str], Fetched], host: str
) -> None:
    fetched = fetch(f"{host}/closed")
    assert code_of(fetched) is ErrorCode.IMAGE_UNREACHABLE
    assert str(fetched) == (
        f"{host}/closed: tried once, the last trouble: the host answers 503, "
        "and asks to be left alone for 7 s"
    )
    assert len(Host.asked["/closed"]) == 1


def test_a_host_that_is_down_for_good_is_given_up_before_its_time(
    connection: redis.Redis, host: str
) -> None:
    with fetcher(connection, timeout_s=120.0) as source:
        (fetched,) = source.fetch([f"{host}/down"])
    assert code_of(fetched) is ErrorCode.IMAGE_UNREACHABLE
    assert len(Host.asked["/down"]) == MAX_TRIES
    about = f"tried {MAX_TRIES} times, the last trouble: the host answers 500"
    assert str(fetched) == f"{host}/down: {about}"


@pytest.mark.parametrize("path", ["/missing", "/huge"])
def test_an_answer_that_will_not_change_is_asked_for_once(
    fetch: Callable[[str], Fetched], host: str, path: str
) -> None:
    assert isinstance(fetch(host + path), ItemRejected)
    assert len(Host.asked[path]) == 1


@pytest.mark.parametrize("path", ["/closed", "/drip", "/drip-headers"])
def test_the_deadline_cuts_a_fetch_short(connection: redis.Redis, host: str, path: str) -> None:
    begun = time.monotonic()
    with fetcher(connection, timeout_s=60.0) as source:
        cut, whole = source.fetch([host + path, f"{host}/image"], deadline=begun + 2)
    assert code_of(cut) is ErrorCode.DEADLINE_EXCEEDED
    assert str(cut).startswith(f"{host}{path}: cut short by the deadline; tried ")
    assert ("the host answers 503" if path == "/closed" else "timed out") in str(cut)
    assert time.monotonic() - begun < 15
    assert whole == b"bytes of /image"


def test_nothing_is_fetched_after_the_deadline(connection: redis.Redis, host: str) -> None:
    with fetcher(connection) as source:
        (fetched,) = source.fetch([f"{host}/image"], deadline=time.monotonic() - 1)
    assert code_of(fetched) is ErrorCode.DEADLINE_EXCEEDED
    assert str(fetched) == f"{host}/image: the deadline passed before the host was asked"
    assert not Host.asked["/image"]


def test_a_url_that_has_no_turn_by_the_deadline_is_not_waited_for(
    connection: redis.Redis, host: str
) -> None:
    # Given hosts that keep every thread busy
    urls = [f"{host}/drip-headers?{number}" for number in range(FETCH_THREADS)]
    with fetcher(connection, timeout_s=60.0, per_host=FETCH_THREADS) as source:
        busy = threading.Thread(target=list, args=(source.fetch(urls),))
        busy.start()
        eventually(lambda: len(Host.asked) == FETCH_THREADS)
        # When one more is asked for, Then it ends by its own deadline
        (fetched,) = source.fetch([f"{host}/image"], deadline=time.monotonic() + 0.1)
        Host.stop.set()
    busy.join()
    assert code_of(fetched) is ErrorCode.DEADLINE_EXCEEDED
    assert "its turn" in str(fetched)


def test_the_body_of_a_redirect_is_not_read_to_its_end(
    fetch: Callable[[str], Fetched], host: str
) -> None:
    assert fetch(f"{host}/moved-for-ever") == b"bytes of /image"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("-5", 0),
        ("soon", 0),
        ("", 0),
        ("\u0665", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 99 Oct 99999999999999 07:28:00 GMT", 0),
    ],
)
def test_a_retry_after_that_says_nothing_useful_asks_for_nothing(
    value: str, seconds: float
) -> None:
    assert retry_after_s(value) == seconds


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/missing", ErrorCode.IMAGE_UNREACHABLE),
        ("/round", ErrorCode.IMAGE_UNREACHABLE),
        ("/huge", ErrorCode.IMAGE_TOO_LARGE),
    ],
)
def test_what_cannot_be_had_is_named(
    fetch: Callable[[str], Fetched], host: str, path: str, code: ErrorCode
) -> None:
    fetched = fetch(host + path)
    assert code_of(fetched) is code
    assert path in str(fetched)


def test_a_dripping_host_is_cut_off_in_time(connection: redis.Redis, host: str) -> None:
    with fetcher(connection, timeout_s=0.3) as source:
        (fetched,) = source.fetch([f"{host}/drip"])
    assert code_of(fetched) is ErrorCode.IMAGE_UNREACHABLE
    assert "not complete after 0.3 s" in str(fetched)


def test_hosts_that_drip_their_headers_leave_no_busy_thread(
    connection: redis.Redis, host: str
) -> None:
    urls = [f"{host}/drip-headers?{number}" for number in range(FETCH_THREADS)]
    begun = time.monotonic()
    with fetcher(connection, timeout_s=1.0, per_host=FETCH_THREADS) as source:
        assert {code_of(one) for one in source.fetch(urls)} == {ErrorCode.IMAGE_UNREACHABLE}
        # Only a free thread can fetch this one.
        assert list(source.fetch([f"{host}/image"])) == [b"bytes of /image"]
    # The hosts drip for 20 s at least.
    assert time.monotonic() - begun < 15


def test_nobody_listening_is_unreachable(connection: redis.Redis) -> None:
    with fetcher(connection, timeout_s=0.5) as source:
        (fetched,) = source.fetch(["http://127.0.0.1:1/x.png"])
    assert code_of(fetched) is ErrorCode.IMAGE_UNREACHABLE
    assert "tried" in str(fetched)


def test_a_name_that_cannot_exist_is_looked_up_once(fetch: Callable[[str], Fetched]) -> None:
    # Too long for any name server to be asked.
    name = ".".join(["long" * 15] * 5)
    fetched = fetch(f"http://{name}/x.png")
    assert code_of(fetched) is ErrorCode.IMAGE_UNREACHABLE
    assert f": {name}: " in str(fetched)


def test_blobs_are_read_page_by_page(connection: redis.Redis) -> None:
    # Given more than two pages of images, one of them lost
    images = [b"image %d" % number for number in range(2 * BLOB_PAGE + 3)]
    wanted = stored(connection, images)
    wanted.insert(BLOB_PAGE, "blob:" + "0" * 64)
    with fetcher(connection) as source:
        reads = calls(connection, "getrange")
        fetched = source.fetch(wanted)
        # When the first page is used up, Then one round trip was made
        first = list(islice(fetched, BLOB_PAGE))
        assert calls(connection, "getrange") - reads == BLOB_PAGE
        lost, *rest = fetched
        assert calls(connection, "getrange") - reads == len(wanted)
    assert code_of(lost) is ErrorCode.IMAGE_UNREACHABLE
    assert [*first, *rest] == images


def test_blobs_are_found_under_the_keys_of_their_deployment(connection: redis.Redis) -> None:
    keys = Keys("here:")
    references = stored(connection, [b"an image"], keys)
    with fetcher(connection, keys=keys) as source:
        assert list(source.fetch(references)) == [b"an image"]


def test_an_unknown_blob_says_to_submit_again(fetch: Callable[[str], Fetched]) -> None:
    fetched = fetch("blob:" + "0" * 64)
    assert code_of(fetched) is ErrorCode.IMAGE_UNREACHABLE
    assert "submit the image again" in str(fetched)


@pytest.mark.parametrize("reference", ["/etc/passwd", "ftp://x/y.png", "gopher:x", "blob:short"])
def test_other_schemes_are_blocked(fetch: Callable[[str], Fetched], reference: str) -> None:
    assert code_of(fetch(reference)) is ErrorCode.IMAGE_BLOCKED


def test_files_are_blocked_unless_a_root_is_set(fetch: Callable[[str], Fetched]) -> None:
    assert code_of(fetch("file:/etc/hostname")) is ErrorCode.IMAGE_BLOCKED


@pytest.mark.parametrize("path", ["/etc/hostname", "../secret", "link", "%2e%2e/secret"])
def test_nothing_outside_the_root_is_read(
    connection: redis.Redis, tmp_path: Path, path: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    with fetcher(connection, image_root=root) as source:
        (fetched,) = source.fetch([f"file:{path}"])
    assert code_of(fetched) is ErrorCode.IMAGE_BLOCKED


def test_private_addresses_are_blocked_by_default(connection: redis.Redis, host: str) -> None:
    with fetcher(connection, guard=AddressPolicy()) as source:
        for url in (f"{host}/image", host.replace("127.0.0.1", "localhost") + "/image"):
            (fetched,) = source.fetch([url])
            assert code_of(fetched) is ErrorCode.IMAGE_BLOCKED
            assert "BLIPLINE_FETCH_ALLOW" in str(fetched)
