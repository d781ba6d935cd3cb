"""Images from object stores: a real S3 server on loopback, and servers that fail."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import redis

from config.stores import PACKAGES, is_store, parse_prefix
from demo.stack import free_port
from producer.contract import ErrorCode
from producer.net.address_policy import AddressPolicy
from tests.s3_server import SECRET, running_s3, use_s3
from worker.errors import ItemRejected
from worker.images import prefetch
from worker.images.fetcher import Fetcher, FetchResult
from worker.images.stores import PIECE_BYTES

BLOCKED = ErrorCode.IMAGE_BLOCKED
UNREACHABLE = ErrorCode.IMAGE_UNREACHABLE
MAX_BYTES = 4096
OBJECTS = {
    "images/a.png": b"an image",
    "images/b c+%3F?.png": b"an odd image",
    "images/b@2x.png": b"a large image",
    "images/empty": b"",
    "images/full": bytes(MAX_BYTES),
    "images/huge": bytes(MAX_BYTES + 1),
    "images/a-piece": bytes(range(256)) * (PIECE_BYTES // 256),
    "images/two-pieces": bytes(range(256)) * (PIECE_BYTES // 128),
    "images/pieces-and-more": bytes(range(251)) * (PIECE_BYTES // 100),
    "secret/a.png": b"secret",
    "images-of-others/a.png": b"secret",
}


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """The address of an S3 server with one bucket."""
    with running_s3(OBJECTS) as address:
        yield address


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment of a worker that reads from that server."""
    use_s3(s3_server, monkeypatch)
    return s3_server


@contextmanager
def fetching(
    connection: redis.Redis,
    stores: Sequence[str] = ("s3://bucket/",),
    timeout_s: float = 20.0,
    max_bytes: int = MAX_BYTES,
    budget_bytes: int = 1 << 24,
) -> Iterator[Fetcher]:
    fetcher = Fetcher(
        connection,
        image_root=None,
        timeout_s=timeout_s,
        max_bytes=max_bytes,
        budget_bytes=budget_bytes,
        policy=AddressPolicy(),
        stores=stores,
    )
    try:
        yield fetcher
    finally:
        fetcher.close()


@pytest.fixture
def fetch(connection: redis.Redis, s3: str) -> Iterator[Callable[[str], FetchResult]]:
    with fetching(connection, ["s3://bucket/images/"]) as fetcher:
        yield lambda reference: next(fetcher.fetch([reference]))


def assert_rejected(result: FetchResult, code: ErrorCode, message: str = "") -> None:
    assert isinstance(result, ItemRejected), result
    assert result.code is code, result
    assert message in str(result)
    assert SECRET not in str(result)
    assert "an-id" not in str(result)


@pytest.mark.parametrize(
    "key", ["images/a.png", "images/b c+%3F?.png", "images/b@2x.png", "images/full"]
)
def test_an_object_is_read(fetch: Callable[[str], FetchResult], key: str) -> None:
    assert fetch(f"s3://bucket/{key}") == OBJECTS[key]


def test_many_objects_are_read_in_order(connection: redis.Redis, s3: str) -> None:
    with fetching(connection) as fetcher:
        keys = ["images/a.png", "images/missing", "images/b@2x.png"] * 15
        results = list(fetcher.fetch([f"s3://bucket/{key}" for key in keys]))
    assert [image for image in results if isinstance(image, bytes)] == [
        OBJECTS["images/a.png"],
        OBJECTS["images/b@2x.png"],
    ] * 15


@pytest.mark.parametrize("budget_mb", [1, 64])
def test_large_objects_are_read_in_pieces(connection: redis.Redis, s3: str, budget_mb: int) -> None:
    keys = ["images/a-piece", "images/two-pieces", "images/pieces-and-more", "images/a.png"] * 2
    with fetching(connection, max_bytes=3 * PIECE_BYTES, budget_bytes=budget_mb << 20) as fetcher:
        results = fetcher.fetch([f"s3://bucket/{key}" for key in keys])
        assert [image == OBJECTS[key] for key, image in zip(keys, results, strict=True)] == [
            True
        ] * 8
    with fetching(connection, max_bytes=2 * PIECE_BYTES) as fetcher:
        results = fetcher.fetch([f"s3://bucket/{key}" for key in keys[1:3]])
        assert next(results) == OBJECTS[keys[1]]
        assert_rejected(next(results), ErrorCode.IMAGE_TOO_LARGE, "more than")


@pytest.mark.parametrize(
    ("reference", "code", "message"),
    [
        ("s3://bucket/images/missing", UNREACHABLE, "no such object"),
        ("s3://bucket/images/empty", UNREACHABLE, ""),
        ("s3://bucket/images/huge", ErrorCode.IMAGE_TOO_LARGE, "more than 4,096 bytes"),
        ("s3://bucket/secret/a.png", BLOCKED, "BLIPLINE_FETCH_STORES"),
        ("s3://bucket/images-of-others/a.png", BLOCKED, "BLIPLINE_FETCH_STORES"),
        ("s3://bucket/", BLOCKED, ""),
        ("s3://bucket", BLOCKED, ""),
        ("s3://bucket/images", BLOCKED, ""),
        ("s3://bucket/images/", BLOCKED, ""),
        ("s3://bucket/images/../secret/a.png", BLOCKED, ".."),
        ("s3://bucket/images/./a.png", BLOCKED, ".."),
        ("s3://bucket/images//a.png", BLOCKED, "empty"),
        ("s3://bucket/images/..", BLOCKED, ".."),
        ("s3://bucket/images/x::file:///etc/passwd", BLOCKED, "::"),
        ("s3://bucket/images/\x00", BLOCKED, ""),
        ("s3://other/images/a.png", BLOCKED, ""),
        ("s3://BUCKET/images/a.png", BLOCKED, ""),
        ("s3://an-id:a-secret-key@bucket/images/a.png", BLOCKED, ""),
        ("s3:bucket/images/a.png", BLOCKED, ""),
        ("S3://bucket/images/a.png", BLOCKED, ""),
        ("gs://bucket/images/a.png", BLOCKED, ""),
        ("simplecache::s3://bucket/images/a.png", BLOCKED, ""),
        ("zip://a.png::s3://bucket/images/a.zip", BLOCKED, ""),
        ("local:///etc/passwd", BLOCKED, ""),
        ("memory://a", BLOCKED, ""),
    ],
)
def test_every_other_reference_is_rejected(
    fetch: Callable[[str], FetchResult], reference: str, code: ErrorCode, message: str
) -> None:
    assert_rejected(fetch(reference), code, message)


def test_no_store_is_read_unless_the_settings_allow_it(connection: redis.Redis, s3: str) -> None:
    with fetching(connection, []) as fetcher:
        (result,) = fetcher.fetch(["s3://bucket/images/a.png"])
    assert_rejected(result, BLOCKED, "BLIPLINE_FETCH_STORES")


def test_a_missing_bucket_and_a_forbidden_one_are_unreachable(
    connection: redis.Redis, s3: str
) -> None:
    with fetching(connection, ["s3://nowhere/"]) as fetcher:
        (result,) = fetcher.fetch(["s3://nowhere/a.png"])
    assert_rejected(result, UNREACHABLE)


def test_missing_credentials_are_named_as_such(
    connection: redis.Redis, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nowhere")
    with fetching(connection) as fetcher:
        (result,) = fetcher.fetch(["s3://bucket/images/a.png"])
    assert_rejected(result, UNREACHABLE, "credentials")


def test_a_server_that_is_down_is_given_up_at_the_time_limit(
    connection: redis.Redis, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with fetching(connection, timeout_s=1.0) as fetcher:
        (result,) = fetcher.fetch(["s3://bucket/images/a.png"])
    assert_rejected(result, UNREACHABLE)


@contextmanager
def silent_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_silent_server_is_given_up_at_the_time_limit(
    connection: redis.Redis, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_server() as address, fetching(connection, timeout_s=0.5) as fetcher:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        references = [f"s3://bucket/images/{number}" for number in range(10)]
        for result in fetcher.fetch(references):
            assert_rejected(result, UNREACHABLE, "not complete after 0.5 s")


def test_the_deadline_ends_a_read_from_a_silent_server(
    connection: redis.Redis, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The read ends itself, however late a busy machine lets it notice the deadline.
    monkeypatch.setattr(prefetch, "SLACK_S", 60.0)
    with silent_server() as address, fetching(connection, timeout_s=60.0) as fetcher:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        deadline = time.monotonic() + 0.5
        (result,) = fetcher.fetch(["s3://bucket/images/a.png"], deadline)
        (late,) = fetcher.fetch(["s3://bucket/images/a.png"], deadline)
    assert_rejected(result, ErrorCode.DEADLINE_EXCEEDED, "the deadline passed")
    assert_rejected(late, ErrorCode.DEADLINE_EXCEEDED, "before the request was sent")


@pytest.mark.parametrize("kind", sorted(set(PACKAGES) - {"s3"}))
def test_a_missing_package_is_named(
    connection: redis.Redis, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[kind], None)
    with fetching(connection, [f"{kind}://bucket/"]) as fetcher:
        (result,) = fetcher.fetch([f"{kind}://bucket/a.png"])
    assert_rejected(result, UNREACHABLE, f"pip install {PACKAGES[kind]}")


def test_fsspec_is_imported_only_when_a_store_is_read() -> None:
    code = (
        "import sys, worker.images.fetcher; print('fsspec' in sys.modules, 's3fs' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/", "s3://bucket/"),
        ("gs://my.bucket/a/b", "gs://my.bucket/a/b/"),
    ],
)
def test_a_prefix_ends_where_a_part_of_a_path_ends(entry: str, expected: str) -> None:
    assert parse_prefix(entry) == expected
    assert is_store(entry)


@pytest.mark.parametrize(
    "entry",
    ["", "s3://", "bucket", "s3:///x", "s3://*", "s3://a/../b", "https://host/", "s3://u:p@bucket"],
)
def test_every_other_prefix_is_rejected(entry: str) -> None:
    with pytest.raises(ValueError, match="not a store prefix"):
        parse_prefix(entry)
