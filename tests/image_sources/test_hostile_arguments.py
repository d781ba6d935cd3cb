"""Hostile names of sources: empty, stores without a bucket, and patterns over loops of links."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.errors import InvalidInput
from producer.image_sources import arguments
from producer.image_sources.options import SourceOptions
from producer.search import sources


@pytest.fixture(autouse=True)
def working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start in an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_an_empty_name_is_quoted() -> None:
    for check in (sources.check, lambda source: arguments.check([source], SourceOptions())):
        with pytest.raises(InvalidInput, match=r"^'': no such file or folder"):
            check("")


@pytest.mark.parametrize("url", ["s3://", "s3:///a", "s3://*", "S3://*/a.png", "gs://", "hf://"])
def test_a_store_without_a_bucket_is_named(url: str) -> None:
    for read in (sources.entries, lambda url: arguments.pictures([url], SourceOptions())):
        with pytest.raises(InvalidInput, match="name a bucket, as"):
            list(read(url))


def test_a_pattern_over_a_loop_of_links_has_each_image_once_and_no_file_of_the_index() -> None:
    for name in ("p/a.png", "index/index.db", "indexes/b.png"):
        Path(name).parent.mkdir()
        Path(name).touch()
    Path("p/loop").symlink_to("../p")
    names = [entry.name for entry in sources.entries("**", index_folder="index")]
    assert names == ["indexes/b.png", "p/a.png"]
    pictures = arguments.pictures(["**/*.png"], SourceOptions())
    assert [picture.name for picture in pictures] == names
