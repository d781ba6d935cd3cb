"""Sources that have lost all of their entries: the index keeps them until it is told otherwise."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.search.index import SearchIndex
from producer.search.update import UpdateOptions
from tests.search.conftest import paint


def fill(source: Path) -> None:
    """Write a source with two images, of the kind that its name has."""
    images = [paint(source.with_name(f"{n}.png"), (250, n, n)) for n in (1, 2)]
    if source.suffix == ".tar":
        with tarfile.open(source, "w") as archive:
            for image in images:
                archive.add(image, image.name)
    elif source.suffix:
        source.write_text("\n".join([*HEADER.get(source.suffix, ()), *(i.name for i in images)]))
    else:
        source.mkdir()
        for image in images:
            shutil.move(image, source)


def empty(source: Path) -> None:
    """Remove everything from a source that `fill` wrote."""
    if source.is_dir():
        shutil.rmtree(source)
        source.mkdir()
    elif source.suffix == ".tar":
        tarfile.open(source, "w").close()
    else:
        source.write_text("\n".join(HEADER.get(source.suffix, ())))


HEADER = {".csv": ["image"], ".tsv": ["image"]}
SOURCES = ("folder", "list.txt", "list.jsonl", "rows.csv", "rows.tsv", "shard.tar")


@pytest.mark.parametrize("name", SOURCES)
def test_an_emptied_source_removes_nothing_unless_asked_to(
    index: SearchIndex, tmp_path: Path, name: str
) -> None:
    source = tmp_path / "made" / name
    source.parent.mkdir()
    fill(source)
    assert index.update(source).embedded == 2
    empty(source)
    failures: list[tuple[str, str]] = []
    options = UpdateOptions(on_failure=lambda *failure: failures.append(failure))
    counts = index.update(options=options)
    assert (counts.entries, counts.removed, counts.failed) == (0, 0, 1)
    ((failed, message),) = failures
    assert failed == str(source)
    assert "2 entries" in message
    assert "--prune-empty" in message
    assert len(index.search("red")) == 2
    counts = index.update(options=UpdateOptions(prune_empty=True))
    assert (counts.removed, counts.failed) == (2, 0)
    assert index.search("red") == []


def test_other_sources_of_the_same_update_lose_what_is_gone(
    index: SearchIndex, photos: Path, tmp_path: Path
) -> None:
    paint(tmp_path / "more" / "rose.png", (250, 100, 100))
    index.update(photos, tmp_path / "more")
    shutil.rmtree(tmp_path / "more")
    (tmp_path / "more").mkdir()
    (photos / "red.png").unlink()
    counts = index.update()
    assert (counts.removed, counts.failed, len(index.search("red"))) == (1, 1, 4)


@pytest.mark.usefixtures("worker")
def test_the_command_names_an_emptied_folder(
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    tmp_path: Path,
    photos: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BLIPLINE_REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)
    assert run(["index", "photos"]) == Exit.OK
    photos.rename(tmp_path / "unmounted")
    photos.mkdir()
    capsys.readouterr()
    assert run(["index"]) == Exit.SOME_FAILED
    out, err = capsys.readouterr()
    assert out.endswith("; 0 removed, 1 failed\n")
    assert f"{photos}: there is nothing now, and the index has 4 entries of it" in err
    assert run(["index", "--prune-empty"]) == Exit.OK
    out, err = capsys.readouterr()
    assert out.endswith("; 4 removed, 0 failed\n")
    assert "no images" not in err
    assert run(["index"]) == Exit.OK
    assert "no images; name archives and tables by a pattern" in capsys.readouterr().err
