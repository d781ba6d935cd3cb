"""Image files of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.image_sources.image_files import file_stamp, image_files, matching_files


def names(root: Path) -> list[str]:
    return [name for _, name, error in image_files(str(root)) if error is None]


def test_images_are_found_once_in_order_whatever_links_lead_to_them(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "a.webp", "c.txt", ".hidden.png", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "d").symlink_to(tmp_path / "b")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "gone.png").symlink_to("nowhere")
    assert names(tmp_path) == ["a.webp", "gone.png", "self.png", "b/1.png", "b/2.JPG"]


def test_a_folder_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    assert list(image_files(missing)) == [(missing, missing, "No such file or directory")]


def test_a_stamp_changes_with_the_content_and_is_empty_without_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    before = file_stamp(str(path))
    path.write_bytes(b"12")
    assert before
    assert file_stamp(str(path)) not in ("", before)
    assert file_stamp(str(tmp_path / "missing")) == ""


def test_a_pattern_reads_each_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "p/b.png", "p/q/c.png", "p/[q]/d.png", ".hidden/e.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    for number in range(3):
        Path(f"p/q/loop{number}").symlink_to(tmp_path / "p")
    every = ["a.png", "p/[q]/d.png", "p/b.png", "p/q/c.png"]
    below = every[1:]
    assert matching_files("**") == matching_files("**/*.png") == matching_files("**/**") == every
    assert matching_files("p/**") == matching_files("p/**/*.png") == below
    assert matching_files("./p/**") == [f"./{name}" for name in below]
    assert matching_files(f"{tmp_path}/**/*.png") == [f"{tmp_path}/{name}" for name in every]
    assert matching_files("*/**/q/*") == matching_files("**/q/*") == ["p/q/c.png"]
    assert matching_files("p/*") == ["p/b.png"]
    assert matching_files("no/**") == matching_files("a.png/**") == matching_files("**/") == []
