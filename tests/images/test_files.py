"""Files under one root: no reference leads out of it, and none hangs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.files import Files
from worker.images.image_budget import ImageBudget

BLOCKED = ErrorCode.IMAGE_BLOCKED
UNREACHABLE = ErrorCode.IMAGE_UNREACHABLE
MAX_BYTES = 1000


def read(files: Files, reference: str) -> bytes:
    """Read a file with enough memory."""
    return files.get(reference, ImageBudget(1 << 20).reserve_due())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with an image, and a secret beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "root-beside").mkdir()
    (tmp_path / "root-beside" / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "below").mkdir(parents=True)
    (root / "image.png").write_bytes(b"an image")
    (root / "below" / "a b#c?d%.png").write_bytes(b"an image")
    os.symlink("../image.png", root / "below" / "link")
    return root


@pytest.fixture
def code(root: Path) -> Callable[[str], ErrorCode]:
    """`code(reference)`: the error code of a reference."""

    def code(reference: str) -> ErrorCode:
        with pytest.raises(ItemRejected) as raised:
            read(Files(root, MAX_BYTES), reference)
        assert str(root) not in str(raised.value)
        return raised.value.code

    return code


@pytest.mark.parametrize(
    "reference",
    [
        "file:image.png",
        "FILE:image.png",
        "file:./image.png",
        "file:below/../image.png",
        "file:below/link",
        "file:%69mage.png",
        "file:below/a%20b%23c%3Fd%25.png",
        "file:{root}/image.png",
        "file://{root}/image.png",
        "file://localhost{root}/image.png",
    ],
)
def test_a_file_under_the_root_is_read(root: Path, reference: str) -> None:
    files = Files(root, MAX_BYTES)
    assert read(files, reference.replace("{root}", str(root))) == b"an image"


def test_a_name_that_is_not_utf_8_is_read(root: Path) -> None:
    Path(os.fsdecode(bytes(root) + b"/\xff.png")).write_bytes(b"an image")
    assert read(Files(root, MAX_BYTES), "file:%FF.png") == b"an image"


def test_the_root_may_be_a_link(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert read(Files(link, MAX_BYTES), "file:below/link") == b"an image"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("file:/etc/hostname", BLOCKED),
        ("file:///etc/hostname", BLOCKED),
        ("file:../secret", BLOCKED),
        ("file:%2e%2e/secret", BLOCKED),
        ("file:%2e%2e%2fsecret", BLOCKED),
        ("file:below/../../secret", BLOCKED),
        ("file:../root-beside/secret", BLOCKED),
        ("file:..", BLOCKED),
        ("file:/", BLOCKED),
        ("file:/proc/self/environ", BLOCKED),
        ("file://other.host/image.png", BLOCKED),
        ("file://127.0.0.1/image.png", BLOCKED),
        ("file:%252e%252e/secret", UNREACHABLE),
        ("file:..\\secret", UNREACHABLE),
        ("file:image.png%00", UNREACHABLE),
        ("file:%00/../secret", UNREACHABLE),
        ("file:image.png\x00", UNREACHABLE),
        ("file:image.png?x", UNREACHABLE),
        ("file:image.png#x", UNREACHABLE),
        ("file:image.png/x", UNREACHABLE),
        ("file:missing.png", UNREACHABLE),
        ("file:", UNREACHABLE),
        ("file:.", UNREACHABLE),
        ("file:below", UNREACHABLE),
        ("file:\ud800", UNREACHABLE),
        ("file:" + "x" * 8000, UNREACHABLE),
        ("file:" + "x/" * 4000, UNREACHABLE),
        ("file:" + "../" * 2000, BLOCKED),
    ],
)
def test_every_other_reference_is_rejected(
    code: Callable[[str], ErrorCode], reference: str, expected: ErrorCode
) -> None:
    assert code(reference) is expected


@pytest.mark.parametrize("target", ["../secret", "/etc/hostname", "below/out/../../../secret"])
def test_a_link_that_leads_out_is_not_followed(
    root: Path, code: Callable[[str], ErrorCode], target: str
) -> None:
    (root / "link").symlink_to(target)
    (root / "below" / "out").symlink_to("..")
    assert code("file:link") is BLOCKED


def test_a_directory_that_leads_out_is_not_followed(
    root: Path, code: Callable[[str], ErrorCode]
) -> None:
    (root / "out").symlink_to("..")
    assert code("file:out/secret") is BLOCKED


def test_circular_links_are_rejected(root: Path, code: Callable[[str], ErrorCode]) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    assert code("file:a") in (UNREACHABLE, BLOCKED)


def test_a_pipe_does_not_hang(root: Path, code: Callable[[str], ErrorCode]) -> None:
    os.mkfifo(root / "pipe")
    assert code("file:pipe") is UNREACHABLE


@pytest.mark.parametrize("name", ["zero", "tty", "random"])
def test_a_device_is_not_read(name: str) -> None:
    with pytest.raises(ItemRejected, match="not a regular file"):
        read(Files(Path("/dev"), MAX_BYTES), f"file:{name}")


def test_a_file_that_is_too_large_is_rejected(root: Path, code: Callable[[str], ErrorCode]) -> None:
    with (root / "huge").open("wb") as file:
        file.truncate(1 << 40)
    assert code("file:huge") is ErrorCode.IMAGE_TOO_LARGE
    with pytest.raises(ItemRejected, match=f"{1 << 40:,} bytes, more than 1,000 bytes"):
        read(Files(root, MAX_BYTES), "file:huge")


def test_no_file_is_read_without_a_root() -> None:
    with pytest.raises(ItemRejected, match="BLIPLINE_IMAGE_ROOT") as raised:
        read(Files(None, MAX_BYTES), "file:/etc/hostname")
    assert raised.value.code is BLOCKED


def test_a_part_that_becomes_a_link_after_the_check_does_not_lead_out(root: Path) -> None:
    # Given a directory and a file that are repeatedly replaced by links that lead out
    stop = threading.Event()
    targets = [(root / "dir", root.parent), (root / "dir.png", root.parent / "secret")]
    (root / "real").mkdir()
    (root / "real" / "secret").write_bytes(b"an image")
    (root / "real.png").write_bytes(b"an image")

    def swap() -> None:
        while not stop.is_set():
            for path, target in targets:
                real = path.with_name(path.name.replace("dir", "real"))
                os.rename(real, path)
                os.rename(path, real)
                os.symlink(target, path)
                os.unlink(path)

    thread = threading.Thread(target=swap)
    thread.start()
    # When they are read repeatedly, Then the secret is never read
    files, seen = Files(root, MAX_BYTES), set()
    rounds, deadline = 0, time.monotonic() + 60
    # A busy machine may need more rounds until a read hits the file itself.
    while rounds < 3000 or (b"an image" not in seen and time.monotonic() < deadline):
        rounds += 1
        for reference in ("file:dir/secret", "file:dir.png"):
            try:
                seen.add(read(files, reference))
            except ItemRejected as error:
                seen.add(error.code.value.encode())
    stop.set()
    thread.join()
    assert b"secret" not in seen
    assert b"an image" in seen
