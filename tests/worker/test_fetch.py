from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from producer import blobs
from producer.contract import ErrorCode
from worker.fetch import Fetched, Fetcher, is_public
from worker.refused import Refused


class Host(BaseHTTPRequestHandler):
    """An image host: each path behaves in its own way."""

    tries = 0

    def do_GET(self) -> None:
        if self.path == "/flaky" and type(self).tries < 2:
            type(self).tries += 1
            self._answer(503, b"")
        elif self.path == "/moved":
            self._answer(302, b"", Location="/image")
        elif self.path == "/round":
            self._answer(302, b"", Location="/round")
        elif self.path in ("/image", "/flaky"):
            self._answer(200, b"bytes of " + self.path.encode())
        elif self.path == "/huge":
            self._answer(200, bytes(5000))
        elif self.path == "/drip":
            self._drip()
        else:
            self._answer(404, b"")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b".")
                stop.wait(0.05)
        except OSError:
            pass

    def log_message(self, format: str, *args: Any) -> None:
        pass


stop = threading.Event()


@pytest.fixture
def host() -> Iterator[str]:
    Host.tries = 0
    stop.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def fetcher(connection: redis.Redis, **settings: Any) -> Iterator[Fetcher]:
    wanted: dict[str, Any] = {
        "image_root": None,
        "max_bytes": 4096,
        "timeout_s": 3.0,
        "private_hosts": True,
    }
    fetcher = Fetcher(connection, **{**wanted, **settings})
    yield fetcher
    fetcher.close()


@pytest.fixture
def fetch(connection: redis.Redis) -> Iterator[Callable[[str], Fetched]]:
    with fetcher(connection) as source:
        yield lambda reference: next(source.fetch([reference]))


def code_of(fetched: Fetched) -> ErrorCode:
    assert isinstance(fetched, Refused), fetched
    return fetched.code


def test_references_of_every_kind_come_back_in_order(
    connection: redis.Redis, host: str, tmp_path: Path
) -> None:
    (tmp_path / "a b.png").write_bytes(b"of a file")
    (blob,) = blobs.upload(connection, [b"of a blob"], ttl_s=60)
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


def test_a_host_in_passing_trouble_is_asked_again(
    fetch: Callable[[str], Fetched], host: str
) -> None:
    assert fetch(f"{host}/flaky") == b"bytes of /flaky"


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


def test_nobody_listening_is_unreachable(fetch: Callable[[str], Fetched]) -> None:
    assert code_of(fetch("http://127.0.0.1:1/x.png")) is ErrorCode.IMAGE_UNREACHABLE


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
    with fetcher(connection, private_hosts=False) as source:
        for url in (f"{host}/image", host.replace("127.0.0.1", "localhost") + "/image"):
            (fetched,) = source.fetch([url])
            assert code_of(fetched) is ErrorCode.IMAGE_BLOCKED
            assert "BLIPLINE_FETCH_PRIVATE_HOSTS" in str(fetched)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_an_address_inside_a_network_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)
