"""Outputs with any kind of value, with any name, and with caption files that cannot be read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from producer.sheets.images import ImageFolders, link_to, thumbnails
from producer.sheets.page import SheetData, write_page
from producer.sheets.reader import read_entries

COLUMNS = (
    *("image", "file_name", "path", "url", "custom_id", "text", "caption", "texts", "answers"),
    *("matches", "error", "error_message", "embedding", "extra"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**400, 1.5, float("nan"), float("inf"), "", "x", "\0", "x" * 5000),
    *([], [None], [[1]], [{}], {}, {"a": 1}, [{"text": 1, "probability": 10**400}]),
    *([{"text": None, "probability": "x"}], "javascript:alert(1)", "http://[::1", "data:,"),
    *("</script><script>alert(1)</script>", "<!--<script>", "file:", "s3://[", "//["),
)
NAMES = ["s3:a.png", "http:a.png", "file:a.png", "blob:a.png", "a:b.png", "javascript:a.png"]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_has_any_kind_of_value(column: str, tmp_path: Path) -> None:
    rows = [{"image": "a.png", "text": "a", column: value} for value in VALUES]
    output = tmp_path / "out.jsonl"
    output.write_text("".join(json.dumps(row) + "\n" for row in rows))
    entries = read_entries(str(output), str(output))
    folders = ImageFolders([str(tmp_path)])
    paths = [folders.find(entry.image) for entry in entries]
    links = [
        link_to(entry.image, path, str(tmp_path))
        for entry, path in zip(entries, paths, strict=True)
    ]
    images = [(entry.image, path) for entry, path in zip(entries, paths, strict=True)]
    page = tmp_path / "page.html"
    with page.open("wb") as file:
        write_page(file, SheetData.of_output("t", entries, links), thumbnails(images, 64, 1))
    assert len(entries) == len(VALUES)
    assert b"<script>alert" not in page.read_bytes()
    assert all(link is None or link.startswith(("http://", "https://")) for link in links)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_whose_name_looks_like_a_reference_is_found(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / name, "PNG")
    path = ImageFolders([str(tmp_path)]).find(name)
    assert path == str(tmp_path / name)
    (thumbnail,) = thumbnails([(name, path)], 64, 1)
    assert thumbnail.startswith("data:image/jpeg")
    link = link_to(name, path, str(tmp_path))
    assert link is not None
    assert ":" not in link


def test_a_file_reference_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    for name in ("a.png", "file:a.png", f"file://{tmp_path}/a.png"):
        assert ImageFolders([str(tmp_path)]).find(name) == str(tmp_path / "a.png")


def test_a_caption_file_that_cannot_be_read_is_an_error_of_its_image(tmp_path: Path) -> None:
    for name in ("pipe", "dangling", "loop", "good"):
        (tmp_path / f"{name}.png").touch()
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "dangling.txt").symlink_to("nowhere")
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    (tmp_path / "good.txt").write_bytes(b"\xef\xbb\xbfa \xff\n")
    entries = {entry.name: entry for entry in read_entries(str(tmp_path))}
    assert entries["good.png"].text == "a \ufffd"
    assert entries["good.png"].error is None
    assert entries["pipe.png"].error == "pipe.txt: not a regular file"
    assert "cannot be read" in (entries["dangling.png"].error or "")
    assert "cannot be read" in (entries["loop.png"].error or "")


def test_kohyas_metadata_is_an_output(tmp_path: Path) -> None:
    path = tmp_path / "meta_cap.json"
    path.write_text(json.dumps({"/p/a.png": {"caption": "a cat", "tags": "cat"}}, indent=2))
    (entry,) = read_entries(str(path))
    assert (entry.name, entry.image, entry.text) == ("/p/a.png", "/p/a.png", "a cat")
    assert entry.fields["tags"] == "cat"
