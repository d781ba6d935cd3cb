"""Hashes of files, and the cache of those of large files."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path

import pytest

from worker.models import file_hashes
from worker.models.file_hashes import FileHashes

OLD_NS = 1_700_000_000 * 10**9


@pytest.fixture(autouse=True)
def small_files_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashes, "SMALL_BYTES", 0)
    # A file may be remembered at once: its signature is changed below, not by the clock.
    monkeypatch.setattr(file_hashes, "SETTLE_S", -3600.0)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(random.Random(1).randbytes(100_000))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file_hashes.json"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hash_once(cache: Path, path: Path) -> str:
    hashes = FileHashes(cache)
    digest = hashes.hash(path)
    hashes.save()
    return digest


def forge(cache: Path) -> None:
    """Replace the remembered hashes, to see where they are used."""
    entries = json.loads(cache.read_text())
    cache.write_text(json.dumps({path: [entry[0], "f" * 64] for path, entry in entries.items()}))


def test_an_unchanged_file_is_read_only_once(cache: Path, weights: Path) -> None:
    assert hash_once(cache, weights) == sha256(weights)
    forge(cache)
    assert hash_once(cache, weights) == "f" * 64


def test_a_link_of_the_hub_shares_the_hash_of_its_blob(
    cache: Path, weights: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(weights)
    hash_once(cache, weights)
    forge(cache)
    assert hash_once(cache, link) == "f" * 64
    # The link now leads to another blob
    blob = tmp_path / "blob"
    blob.write_bytes(b"blob")
    link.unlink()
    link.symlink_to(blob)
    assert hash_once(cache, link) == sha256(blob)


@pytest.mark.parametrize("way", ["write", "in place", "replace", "same time", "append"])
def test_a_rewritten_file_is_read_again(cache: Path, weights: Path, way: str) -> None:
    os.utime(weights, ns=(OLD_NS, OLD_NS))
    hash_once(cache, weights)
    data = bytearray(weights.read_bytes())
    data[50_000] ^= 1
    if way == "replace":
        new = weights.with_suffix(".new")
        new.write_bytes(data)
        new.replace(weights)
    elif way == "in place":
        with weights.open("r+b") as file:
            file.seek(50_000)
            file.write(data[50_000:50_001])
    else:
        weights.write_bytes(data + b"x" * (way == "append"))
    if way in ("same time", "replace"):
        os.utime(weights, ns=(OLD_NS, OLD_NS))
    assert hash_once(cache, weights) == sha256(weights)
    # And the new content is remembered in its turn
    forge(cache)
    assert hash_once(cache, weights) == "f" * 64


def test_a_file_that_has_just_changed_is_not_remembered(
    cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_hashes, "SETTLE_S", 3600.0)
    assert hash_once(cache, weights) == sha256(weights)
    assert not cache.exists()


def test_small_files_are_always_read(
    cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_once(cache, weights)
    forge(cache)
    monkeypatch.setattr(file_hashes, "SMALL_BYTES", 100_000)
    assert hash_once(cache, weights) == sha256(weights)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"%s": []}',
        b'{"%s": ["a", 3]}',
        b'{"%s": [[1, 2], "f"]}',
        b'{"%s": [["a", "b", "c", "d"], "f"]}',
        b'{"%s": 1}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_cache_file_is_computed_again(cache: Path, weights: Path, content: bytes) -> None:
    cache.parent.mkdir()
    cache.write_bytes(content.replace(b"%s", str(weights).encode()))
    assert hash_once(cache, weights) == sha256(weights)
    forge(cache)
    assert hash_once(cache, weights) == "f" * 64


def test_a_cache_that_others_can_write_is_ignored(cache: Path, weights: Path) -> None:
    hash_once(cache, weights)
    assert cache.stat().st_mode & 0o777 == 0o600
    assert cache.parent.stat().st_mode & 0o777 == 0o700
    forge(cache)
    cache.chmod(0o666)
    assert hash_once(cache, weights) == sha256(weights)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "file").write_text("")
    assert hash_once(tmp_path / "file" / "cache.json", weights) == sha256(weights)


def test_engines_add_to_the_same_cache_and_forget_files_that_are_gone(
    cache: Path, weights: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second.bin"
    second.write_bytes(b"abc")
    first_engine, second_engine = FileHashes(cache), FileHashes(cache)
    first_engine.hash(weights)
    second_engine.hash(second)
    first_engine.save()
    second_engine.save()
    assert set(json.loads(cache.read_text())) == {str(weights), str(second)}
    weights.unlink()
    second.write_bytes(b"abcd")
    hash_once(cache, second)
    assert set(json.loads(cache.read_text())) == {str(second)}
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]
