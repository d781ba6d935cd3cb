"""Tables, archives and object stores in an index: embedded once, found, re-ranked and removed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import fsspec
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.search.index import SearchIndex
from producer.search.update import UpdateOptions
from tests.search.conftest import COLORS, ColorWorker, paint


def picture(name: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), COLORS[name]).save(file, "PNG")
    return file.getvalue()


def write_archive(path: Path, members: Mapping[str, bytes]) -> str:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


def csv_of_paths(folder: Path) -> tuple[str, str, str]:
    for name in COLORS:
        paint(folder / f"{name}.png", COLORS[name])
    (folder / "c.csv").write_text("path,more\n" + "".join(f"{name}.png,x\n" for name in COLORS))
    return str(folder / "c.csv"), "red.png", str(folder / "red.png")


def tsv_of_urls(folder: Path) -> tuple[str, str, str]:
    urls = [f"https://x.org/{name}.png" for name in COLORS]
    (folder / "c.tsv").write_text("caption\turl\n" + "".join(f"red\t{url}\n" for url in urls))
    return str(folder / "c.tsv"), urls[0], urls[0]


def parquet_of_bytes(folder: Path) -> tuple[str, str, str]:
    rows = [{"key": name, "jpg": picture(name), "url": "https://x.org"} for name in COLORS]
    path = folder / "c.parquet"
    parquet.write_table(arrow.Table.from_pylist(rows), path, row_group_size=2)
    return str(path), "c.parquet/red", f"{path}/1"


def archive(folder: Path) -> tuple[str, str, str]:
    members = {f"x/{name}.png": picture(name) for name in COLORS} | {"x/red.txt": b"red"}
    path = write_archive(folder / "c.tar", members)
    return path, "c.tar/x/red.png", f"{path}/x/red.png"


def store_prefix(folder: Path) -> tuple[str, str, str]:
    store = fsspec.filesystem("memory")
    for name in COLORS:
        store.pipe_file(f"/search/{name}.png", picture(name))
    return "memory://search", "red.png", "memory://search/red.png"


@pytest.mark.parametrize(
    "collection", [csv_of_paths, tsv_of_urls, parquet_of_bytes, archive, store_prefix]
)
def test_each_kind_of_collection_is_embedded_once_found_and_re_ranked(
    index: SearchIndex,
    worker: ColorWorker,
    tmp_path: Path,
    collection: Callable[[Path], tuple[str, str, str]],
) -> None:
    source, name, value = collection(tmp_path)
    counts = index.update(source)
    assert (counts.entries, counts.embedded, counts.failed) == (3, 3, 0)
    # Without a source, the index knows it.
    counts = index.update()
    assert (counts.entries, counts.unchanged, counts.embedded, counts.removed) == (3, 3, 0, 0)
    assert worker.embedded.total() == 3
    (hit,) = index.search("red", count=1)
    assert (hit.name, hit.value) == (name, value)
    assert [hit.name for hit in index.search("blue", paths=[value], count=5)] == [name]
    ranked = index.search("red", rerank=3)
    assert [hit.error for hit in ranked] == [None] * 3
    assert all(hit.probability is not None for hit in ranked)
    assert worker.matched == 3


def test_only_new_members_of_an_archive_are_embedded_and_others_leave(
    index: SearchIndex, worker: ColorWorker, tmp_path: Path
) -> None:
    members = {f"{name}.png": picture(name) for name in ("red", "green")}
    path = write_archive(tmp_path / "c.tar", members)
    index.update(path)
    write_archive(tmp_path / "c.tar", {"blue.png": picture("blue"), "red.png": picture("red")})
    counts = index.update()
    assert (counts.embedded, counts.unchanged, counts.removed) == (1, 1, 1)
    assert worker.embedded.total() == 3
    assert {hit.name for hit in index.search("red")} == {"c.tar/red.png", "c.tar/blue.png"}


def test_a_damaged_archive_and_an_unusable_table_remove_nothing(
    index: SearchIndex, tmp_path: Path
) -> None:
    path = write_archive(tmp_path / "c.tar", {f"{name}.png": picture(name) for name in COLORS})
    table = tmp_path / "c.csv"
    table.write_text("image\nhttps://x.org/red.png\n")
    index.update(path, table)
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[:1024] + b"\xff" * 512 + data[1536:])
    table.write_text("picture\nhttps://x.org/red.png\n")
    failures: dict[str, str] = {}
    options = UpdateOptions(on_failure=lambda name, message: failures.update({name: message}))
    counts = index.update(options=options)
    assert (counts.removed, len(index.search("red", count=9))) == (0, 4)
    assert "damaged after" in failures[path]
    assert "no column with an image: name one with --image-column" in failures[str(table)]
    assert index.update(table, options=UpdateOptions(image_column="picture")).failed == 0


def test_cells_without_bytes_and_image_data_fail_alone(index: SearchIndex, tmp_path: Path) -> None:
    rows = [{"image": picture("red")}, {"image": None}]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "c.parquet")
    (tmp_path / "c.csv").write_text("image\ndata:image/png;base64,AAAA\nhttps://x.org/blue.png\n")
    messages: list[str] = []
    options = UpdateOptions(on_failure=lambda name, message: messages.append(message))
    counts = index.update(tmp_path / "c.parquet", tmp_path / "c.csv", options=options)
    assert (counts.embedded, counts.failed) == (2, 2)
    assert messages[0] == "the cell has no bytes"
    assert "a data: URL has no name under which it could be found" in messages[1]


@pytest.mark.parametrize("collection", [archive, parquet_of_bytes])
def test_a_member_whose_file_is_gone_comes_last_with_a_note(
    index: SearchIndex,
    photos: Path,
    tmp_path: Path,
    collection: Callable[[Path], tuple[str, str, str]],
) -> None:
    source, name, _ = collection(tmp_path)
    index.update(source, photos / "sea")
    Path(source).unlink()
    hits = index.search("red", rerank=4)
    assert (hits[0].name, hits[0].error) == ("deep blue.png", None)
    gone = next(hit for hit in hits if hit.name == name)
    assert gone.probability is None
    assert "No such file" in (gone.error or "")


@pytest.mark.usefixtures("worker")
def test_a_sheet_shows_members_of_archives(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLIPLINE_REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)
    write_archive(tmp_path / "c.tar", {"red.png": picture("red")})
    assert run(["index", "c.tar"]) == Exit.OK
    assert run(["search", "red", "--html", "hits.html"]) == Exit.OK
    assert Path("hits.html").read_text().count("data:image/jpeg;base64,") == 1
