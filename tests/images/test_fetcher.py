"""References of every kind, and the references that are blocked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from producer.contract import ErrorCode
from producer.net.address_policy import AddressPolicy
from tests.images.image_host import (
    Host,
    code_of,
    eventually,
    running_fetcher,
    store_blobs,
)
from worker.images.fetcher import FETCH_THREADS, FetchResult


def test_references_of_every_kind_come_back_in_order(
    connection: redis.Redis, host: str, tmp_path: Path
) -> None:
    (tmp_path / "a b.png").write_bytes(b"of a file")
    (blob,) = store_blobs(connection, [b"of a blob"])
    with running_fetcher(connection, image_root=tmp_path) as source:
        references = [f"{host}/image", blob, "file:a%20b.png", blob, f"{host}/image"]
        assert list(source.fetch(references)) == [
            b"bytes of /image",
            b"of a blob",
            b"of a file",
            b"of a blob",
            b"bytes of /image",
        ]


def test_a_url_that_gets_no_thread_by_the_deadline_is_given_up(
    connection: redis.Redis, host: str
) -> None:
    # Given hosts that keep every thread busy
    urls = [f"{host}/drip-headers?{number}" for number in range(FETCH_THREADS)]
    with running_fetcher(connection, timeout_s=60.0, per_host=FETCH_THREADS) as source:
        busy = threading.Thread(target=list, args=(source.fetch(urls),))
        busy.start()
        eventually(lambda: len(Host.requests) == FETCH_THREADS)
        # When one more is result, Then it ends by its own deadline
        (result,) = source.fetch([f"{host}/image"], deadline=time.monotonic() + 0.1)
        Host.stop.set()
    busy.join()
    assert code_of(result) is ErrorCode.DEADLINE_EXCEEDED
    assert "a thread" in str(result)


def test_nothing_is_fetched_after_the_deadline(connection: redis.Redis, host: str) -> None:
    with running_fetcher(connection) as source:
        (result,) = source.fetch([f"{host}/image"], deadline=time.monotonic() - 1)
    assert code_of(result) is ErrorCode.DEADLINE_EXCEEDED
    assert str(result) == f"{host}/image: the deadline passed before the request was sent"
    assert not Host.requests["/image"]


@pytest.mark.parametrize("reference", ["/etc/passwd", "ftp://x/y.png", "gopher:x", "blob:short"])
def test_other_schemes_are_blocked(fetch: Callable[[str], FetchResult], reference: str) -> None:
    assert code_of(fetch(reference)) is ErrorCode.IMAGE_BLOCKED


def test_files_are_blocked_unless_a_root_is_set(fetch: Callable[[str], FetchResult]) -> None:
    assert code_of(fetch("file:/etc/hostname")) is ErrorCode.IMAGE_BLOCKED


@pytest.mark.parametrize("path", ["/etc/hostname", "../secret", "link", "%2e%2e/secret"])
def test_nothing_outside_the_root_is_read(
    connection: redis.Redis, tmp_path: Path, path: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    with running_fetcher(connection, image_root=root) as source:
        (result,) = source.fetch([f"file:{path}"])
    assert code_of(result) is ErrorCode.IMAGE_BLOCKED


def test_private_addresses_are_blocked_by_default(connection: redis.Redis, host: str) -> None:
    with running_fetcher(connection, policy=AddressPolicy()) as source:
        for url in (f"{host}/image", host.replace("127.0.0.1", "localhost") + "/image"):
            (result,) = source.fetch([url])
            assert code_of(result) is ErrorCode.IMAGE_BLOCKED
            assert "BLIPLINE_FETCH_ALLOW" in str(result)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/missing", ErrorCode.IMAGE_UNREACHABLE),
        ("/round", ErrorCode.IMAGE_UNREACHABLE),
        ("/huge", ErrorCode.IMAGE_TOO_LARGE),
    ],
)
def test_the_error_names_the_url(
    fetch: Callable[[str], FetchResult], host: str, path: str, code: ErrorCode
) -> None:
    result = fetch(host + path)
    assert code_of(result) is code
    assert path in str(result)
