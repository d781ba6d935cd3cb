"""Updates of an index: only new and changed contents are embedded, and removed entries leave."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from demo.stack import ROOT
from producer import Client, InvalidInput, WaitTimeout
from producer.search.index import SearchIndex
from producer.search.update import UpdateOptions
from tests.search.conftest import BOUND_S, ColorWorker, paint


def names(index: SearchIndex, text: str = "red", **arguments: object) -> list[str]:
    return [hit.name for hit in index.search(text, **arguments)]  # type: ignore[arg-type]


def test_only_new_and_changed_files_are_embedded(
    index: SearchIndex, worker: ColorWorker, photos: Path
) -> None:
    counts = index.update(photos)
    assert (counts.entries, counts.changed, counts.embedded, counts.failed) == (4, 4, 4, 0)
    counts = index.update()
    assert (counts.entries, counts.unchanged, counts.embedded) == (4, 4, 0)

    paint(photos / "red.png", (120, 120, 10))
    paint(photos / "violet.png", (120, 10, 120))
    # Touched, with the same content.
    os.utime(photos / "green.png")
    counts = index.update(photos)
    assert (counts.entries, counts.changed, counts.unchanged) == (5, 2, 3)
    assert worker.embedded.total() == 4 + 2


def test_moved_and_copied_files_are_not_embedded_again(
    index: SearchIndex, worker: ColorWorker, photos: Path
) -> None:
    index.update(photos)
    (photos / "red.png").rename(photos / "sea" / "sunset.png")
    (photos / "green copy.png").write_bytes((photos / "green.png").read_bytes())
    counts = index.update()
    assert (counts.changed, counts.removed, counts.embedded) == (2, 1, 0)
    assert names(index, "red", count=1) == ["sea/sunset.png"]
    (green,) = index.search("green", count=1)
    assert (green.name, len(green.copies)) == ("green copy.png", 1)


def test_removed_files_leave_the_index(index: SearchIndex, photos: Path) -> None:
    index.update(photos)
    (photos / "red.png").unlink()
    assert index.update().removed == 1
    assert set(names(index)) == {"green.png", "blue.png", "sea/deep blue.png"}


def test_each_source_keeps_its_own_entries(
    index: SearchIndex, photos: Path, tmp_path: Path
) -> None:
    paint(tmp_path / "more" / "rose.png", (250, 100, 100))
    index.update(photos)
    counts = index.update(tmp_path / "more")
    assert (counts.removed, len(names(index))) == (0, 5)
    assert index.facts().sources == [str(tmp_path / "more"), str(photos)]


def test_a_folder_that_cannot_be_read_removes_nothing(
    index: SearchIndex, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.update(photos)
    (photos / "red.png").unlink()
    scandir = os.scandir

    def refuse(folder: Any = ".") -> Any:
        if str(folder).endswith("sea"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    # Root, who may run the tests, can read every folder.
    monkeypatch.setattr(os, "scandir", refuse)
    counts = index.update()
    assert (counts.removed, counts.failed) == (0, 1)
    monkeypatch.undo()
    assert index.update().removed == 1


def test_a_folder_that_is_gone_for_now_removes_nothing(index: SearchIndex, photos: Path) -> None:
    index.update(photos)
    photos.rename(photos.with_name("unmounted"))
    with pytest.raises(InvalidInput, match="no such file or folder"):
        index.update()
    assert len(names(index)) == 4


def test_an_image_that_fails_for_good_is_tried_once(
    index: SearchIndex, worker: ColorWorker, photos: Path
) -> None:
    (photos / "broken.png").write_bytes(b"no image")
    failures: list[str] = []
    options = UpdateOptions(on_failure=lambda name, message: failures.append(name))
    assert index.update(photos, options=options).failed == 1
    assert failures == ["broken.png"]
    assert (index.update(options=options).failed, worker.embedded.total()) == (1, 4)
    assert failures == ["broken.png"] * 2
    os.utime(photos / "broken.png")
    assert (index.update(options=options).failed, worker.embedded.total()) == (1, 4)
    (photos / "broken.png").write_bytes((photos / "red.png").read_bytes() + b" ")
    assert (index.update().failed, worker.embedded.total()) == (0, 5)


def test_a_failure_is_tried_again_on_request(
    index: SearchIndex, worker: ColorWorker, photos: Path
) -> None:
    (photos / "broken.png").write_bytes(b"no image")
    index.update(photos)
    failures: list[str] = []
    options = UpdateOptions(
        retry_failed=True, on_failure=lambda name, message: failures.append(message)
    )
    assert index.update(options=options).failed == 1
    assert "image_invalid" in failures[0]


def test_unusual_names_and_unreadable_lines(index: SearchIndex, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    odd = [
        "-n.png",
        "file:x.png",
        "a\nb\tc.png",
        "caf\u00e9.png",
        "cafe\u0301.png",
        "x" * 240 + ".png",
    ]
    for number, name in enumerate(odd):
        paint(folder / name, (250, 10 + number, 10))
    undecodable = os.fsdecode(b"caf\xe9.png")
    paint(folder / undecodable, (250, 200, 10))
    (folder / "loop").symlink_to(folder)
    (folder / ".hidden.png").write_bytes(b"")
    listing = tmp_path / "list.jsonl"
    listing.write_text(
        '{"image": "missing.png"}\n\n{"text": "a red flag"}\nnot there.png\n{"no"\n[1]\n'
    )
    counts = index.update(folder, listing)
    assert (counts.entries, counts.embedded, counts.failed) == (7 + 3, 8, 4)
    assert set(names(index, count=20)) == {*odd, undecodable}
    assert names(index, paths=["caf*"], count=20) == [
        "caf\u00e9.png",
        "cafe\u0301.png",
        undecodable,
    ]
    assert names(index, find="text") == ["a red flag"]


def test_a_second_update_at_the_same_time_is_refused(
    index: SearchIndex, client: Client, photos: Path
) -> None:
    refusals: list[str] = []

    def update_too(_: object) -> None:
        if not refusals:
            with pytest.raises(InvalidInput) as error:
                client.index(index.folder).update(photos)
            refusals.append(str(error.value))

    index.update(photos, options=UpdateOptions(on_counts=update_too))
    assert "another process writes this index" in refusals[0]


def test_an_update_that_was_killed_continues(
    client: Client, worker: ColorWorker, photos: Path, redis_url: str, tmp_path: Path
) -> None:
    for number in range(100):
        paint(photos / f"{number}.png", (number, 250, 0))
    worker.takes_batches.clear()
    folder = tmp_path / "killed.index"
    command = [sys.executable, "-m", "producer.cli", "index", str(photos), "--index", str(folder)]
    environment = {**os.environ, "BLIPLINE_REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, cwd=tmp_path)
    end = time.monotonic() + BOUND_S
    while client.depth().items["bulk"] < 104 and time.monotonic() < end:  # type: ignore[index]
        time.sleep(0.02)
    process.kill()
    process.wait()
    worker.takes_batches.set()

    counts = client.index(folder).update(photos)
    assert (counts.entries, counts.failed) == (104, 0)
    assert worker.embedded.total() == 104, "the batches of the killed process were used"
    assert len(client.index(folder).search("red", count=1000)) == 104
    assert client.index(folder).update().embedded == 0


def test_lost_results_are_submitted_by_the_next_update(
    index: SearchIndex, worker: ColorWorker, photos: Path
) -> None:
    worker.takes_batches.clear()
    with pytest.raises(WaitTimeout):
        index.update(photos, options=UpdateOptions(timeout_s=0.1))
    worker.connection.flushdb()
    worker.takes_batches.set()
    counts = index.update(photos)
    assert (counts.embedded, counts.failed) == (4, 0)


def test_an_empty_folder_is_an_empty_index(index: SearchIndex, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert index.update(tmp_path / "empty").entries == 0
    assert index.search("red") == []


def test_sources_are_needed_once(index: SearchIndex) -> None:
    with pytest.raises(InvalidInput, match="no sources yet"):
        index.update()
