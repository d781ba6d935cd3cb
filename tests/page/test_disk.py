"""The disk that uploads may take."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from producer.page import disk


def a_file(path: Path, size: int, age_s: float = 0.0) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    for one in (path, path.parent):
        os.utime(one, (time.time() - age_s,) * 2)
    return path


def test_what_was_forgotten_goes_and_the_rest_is_counted(tmp_path: Path) -> None:
    fresh = a_file(tmp_path / "a" / "fresh.png", 100)
    old = a_file(tmp_path / "b" / "old.png", 1000, disk.FORGOTTEN_S + 60)
    assert disk.tidy(str(tmp_path)) == 100
    assert fresh.exists()
    assert not old.exists()


def test_an_upload_must_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MAX_HELD_BYTES", 1000)
    a_file(tmp_path / "a" / "a.png", 600)
    assert disk.no_room(str(tmp_path), 400) is None
    assert "no room" in (disk.no_room(str(tmp_path), 401) or "")
    assert "fewer files" in (disk.no_room(str(tmp_path), disk.MAX_UPLOAD_BYTES + 1) or "")
