"""WebDataset archives in and out, and object stores."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import fsspec
import pytest

from producer.annotate.outputs import webdataset
from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import (
    annotate,
    image_bytes,
    json_lines,
    text_of,
    write_image,
)


def members(path: Path) -> dict[str, bytes]:
    """Return the files of an archive."""
    with tarfile.open(path) as archive:
        return {
            member.name: file.read()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }


def write_archive(path: Path, files: dict[str, bytes]) -> None:
    """Write an archive."""
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def test_images_of_an_archive_need_an_output(capsys: pytest.CaptureFixture[str]) -> None:
    write_archive(Path("in.tar"), {"0.ppm": image_bytes(0)})
    assert annotate("in.tar", "--dry-run") == Exit.USAGE
    assert "in.tar: no folder is beside its images: choose an output" in capsys.readouterr().err


def test_an_archive_is_a_source_with_its_columns_and_captions(
    responder: Responder, tmp_path: Path
) -> None:
    write_archive(
        tmp_path / "in.tar",
        {
            "x/000.jpg": image_bytes(0),
            "x/000.json": b'{"url": "https://a"}',
            "x/001.png": image_bytes(1),
            "x/001.txt": b"mine\n",
            "x/002.seg.png": image_bytes(2),
            "README": b"no image",
        },
    )
    assert annotate("in.tar", "-o", "out.jsonl") == Exit.OK
    rows = json_lines(Path("out.jsonl"))
    assert [row["file_name"] for row in rows] == ["x/000.jpg", "x/001.png", "x/002.seg.png"]
    assert (rows[0]["url"], rows[1]["text"]) == ("https://a", "mine")
    assert responder.answers == 2


def test_an_archive_out_has_image_caption_and_columns_of_each_sample(
    responder: Responder, tmp_path: Path
) -> None:
    names = ["a.b.jpg", "new\nline.png", "-x.PNG"]
    texts = {name: write_image(tmp_path / "p" / name, number) for number, name in enumerate(names)}
    assert annotate("p", "-o", "out.tar") == Exit.OK
    files = members(tmp_path / "out.tar")
    for number, name in enumerate(sorted(names)):
        key = f"{number:08d}"
        assert files[f"{key}.txt"].decode() == texts[name]
        assert json.loads(files[f"{key}.json"]) == {"file_name": name, "text": texts[name]}
        suffix = name.rpartition(".")[2].lower()
        assert files[f"{key}.{suffix}"] == (tmp_path / "p" / name).read_bytes()
    # It is a source itself, whose captions stay.
    assert annotate("out.tar", "-o", "again.jsonl") == Exit.OK
    assert [row["text"] for row in json_lines(Path("again.jsonl"))] == [
        texts[name] for name in sorted(names)
    ]
    assert responder.answers == 3


def test_a_number_in_the_name_makes_shards(
    responder: Responder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset, "SHARD_SAMPLES", 4)
    for number in range(10):
        write_image(tmp_path / "p" / f"{number}.png", number)
    assert annotate("p", "-o", "out-%03d.tar") == Exit.OK
    shards = sorted(tmp_path.glob("out-*.tar"))
    assert [len(members(shard)) // 3 for shard in shards] == [4, 4, 2]


def test_a_damaged_archive_keeps_the_images_before_the_damage(
    responder: Responder, tmp_path: Path
) -> None:
    write_archive(tmp_path / "in.tar", {f"{n}.png": image_bytes(n) for n in range(3)})
    data = (tmp_path / "in.tar").read_bytes()
    (tmp_path / "in.tar").write_bytes(data[:1024] + b"\xff" * 512 + data[1536:2048])
    assert annotate("in.tar", "-o", "out.jsonl") == Exit.SOME_FAILED
    assert [row["file_name"] for row in json_lines(Path("out.jsonl"))] == ["0.png"]


def test_urls_cannot_enter_an_archive(
    responder: Responder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert annotate("https://images.example.com/cat.jpg", "-o", "out.tar") == Exit.USAGE
    assert "a WebDataset needs the bytes of images, not URLs" in capsys.readouterr().err


def test_an_object_store_is_listed_and_read(responder: Responder, tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for name in ("photos/a b.png", "photos/deep/ü.jpg", "photos/notes.txt", "others/c.png"):
        store.pipe_file(f"/{name}", image_bytes(len(name)))
    assert annotate("memory://photos", "-o", "out.jsonl") == Exit.OK
    assert [row["file_name"] for row in json_lines(Path("out.jsonl"))] == ["a b.png", "deep/ü.jpg"]
    assert annotate("memory://photos/*.png", "-o", "pattern/") == Exit.OK
    write_image(tmp_path / "same.png", len("photos/a b.png"))
    (path,) = Path("pattern").rglob("*.txt")
    assert path.read_text() == text_of(tmp_path / "same.png") + "\n"
    Path("in.jsonl").write_text('{"image": "memory://photos/a b.png"}\n{"image": "memory://gone"}')
    assert annotate("in.jsonl", "-o", "rows.jsonl", "--errors", "errors.jsonl") == Exit.SOME_FAILED
    assert json_lines(Path("errors.jsonl"))[0]["error"]["code"] == "image_unreachable"


def test_a_store_without_its_package_is_named(
    responder: Responder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert annotate("gs://bucket/prefix", "-o", "out.jsonl") == Exit.USAGE
    assert "gs://bucket/prefix: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["shards/*.tar", "shards/0.tar", "x.parquet", "x.jsonl"])
def test_tables_and_archives_in_a_store_are_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert annotate(f"memory://refused/{name}", "-o", "out.jsonl", "--dry-run") == Exit.USAGE
    assert f"memory://refused/{name}: tables and archives are read" in capsys.readouterr().err
