"""Outputs read, and sources written, by the libraries of others, unmodified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import s3fs
import webdataset
from PIL import Image

from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, json_lines, text_of
from tests.s3_server import running_s3, use_s3

#: Unusual names that ImageFolder and WebDataset can carry.
NAMES = ("a b.png", "ü.png", "u\u0308.png", "-x.png", "deep/file:x.png", "deep/100%.png")

LoadDataset = Callable[..., Any]


@pytest.fixture
def load_dataset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LoadDataset:
    """Return `datasets.load_dataset` for local files."""
    # Read at import.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    def load(builder: str, **files: Any) -> Any:
        return datasets.load_dataset(builder, split="train", cache_dir=tmp_path / "cache", **files)

    return load


@pytest.fixture
def texts(responder: Responder, tmp_path: Path) -> dict[str, str]:
    """Write images of distinct colors; return the text that the responder gives each."""
    for number, name in enumerate(NAMES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    return {name: text_of(tmp_path / "photos" / name) for name in NAMES}


def colors(rows: Any) -> dict[int, str]:
    """Return the texts by the number of the image's color."""
    return {row["image"].getpixel((0, 0))[0]: row["text"] for row in rows}


def test_datasets_reads_an_image_folder(texts: dict[str, str], load_dataset: LoadDataset) -> None:
    assert annotate("photos", "-o", "photos/metadata.jsonl") == Exit.OK
    assert colors(load_dataset("imagefolder", data_dir="photos")) == dict(
        enumerate(texts[name] for name in NAMES)
    )


@pytest.mark.parametrize("builder", ["json", "csv", "parquet"])
def test_datasets_reads_each_table(
    texts: dict[str, str], load_dataset: LoadDataset, builder: str
) -> None:
    name = "out.jsonl" if builder == "json" else f"out.{builder}"
    assert annotate("photos", "-o", name) == Exit.OK
    rows = load_dataset(builder, data_files=name)
    assert {row["file_name"]: row["text"] for row in rows} == texts


def test_datasets_reads_the_images_of_parquet(
    texts: dict[str, str], load_dataset: LoadDataset
) -> None:
    assert annotate("photos", "-o", "images.tar") == Exit.OK
    assert annotate("images.tar", "-o", "out.parquet") == Exit.OK
    assert colors(load_dataset("parquet", data_files="out.parquet")) == dict(
        enumerate(texts[name] for name in NAMES)
    )


# webdataset does not close the archive.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_datasets_and_webdataset_read_an_archive(
    texts: dict[str, str], load_dataset: LoadDataset, tmp_path: Path
) -> None:
    assert annotate("photos", "-o", "out-%03d.tar") == Exit.OK
    rows = load_dataset("webdataset", data_files="out-*.tar")
    assert {row["json"]["file_name"]: row["txt"] for row in rows} == texts
    archive = webdataset.WebDataset(str(tmp_path / "out-000.tar"), shardshuffle=False)
    samples = archive.decode("pil")
    assert {sample["json"]["file_name"]: sample["txt"] for sample in samples} == texts


@pytest.mark.parametrize("name", ["in.parquet", "in.jsonl"])
def test_a_table_of_datasets_is_a_source(
    texts: dict[str, str], load_dataset: LoadDataset, name: str
) -> None:
    rows = load_dataset("imagefolder", data_dir="photos")
    if name.endswith(".parquet"):
        rows.to_parquet(name)
    else:
        import datasets

        rows.cast_column("image", datasets.Image(decode=False)).map(
            lambda row: {"path": row["image"]["path"]}, remove_columns=["image"]
        ).to_json(name)
    assert annotate(name, "-o", "out.jsonl") == Exit.OK
    assert {row["text"] for row in json_lines(Path("out.jsonl"))} == set(texts.values())


def test_an_s3_server_is_a_source_whose_changed_objects_are_captioned_again(
    texts: dict[str, str], responder: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = {f"photos/{name}": Path("photos", name).read_bytes() for name in NAMES}
    with running_s3(objects | {"photos/notes.txt": b"no image", "a.png": b"another"}) as address:
        use_s3(address, monkeypatch)
        for answers in (len(NAMES), len(NAMES), len(NAMES) + 1):
            if answers > len(NAMES):
                Image.new("RGB", (8, 8), (0, 255, 0)).save("photos/-x.png")
                texts["-x.png"] = text_of(Path("photos/-x.png"))
                s3fs.S3FileSystem().put_file("photos/-x.png", "bucket/photos/-x.png")
                # As in another process.
                s3fs.S3FileSystem.clear_instance_cache()
            assert annotate("s3://bucket/photos", "-o", "out.jsonl") == Exit.OK
            rows = json_lines(Path("out.jsonl"))
            assert {row["file_name"]: row["text"] for row in rows} == texts
            assert responder.answers == answers
        assert annotate("s3://bucket/photos/*.png", "-o", "top.jsonl") == Exit.OK
        assert len(json_lines(Path("top.jsonl"))) == sum("/" not in name for name in NAMES)
        assert annotate("s3://missing/photos", "-o", "missing.jsonl") == Exit.USAGE
