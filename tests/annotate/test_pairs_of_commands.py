"""Each table that a command writes, read by each command: with all images and their texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from producer.capfilt.pairs import read_pairs
from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.evaluation.annotations import read_captioned_images
from producer.evaluation.captions import score_captions
from producer.evaluation.results import image_ids, read_texts
from producer.image_sources.arguments import pictures
from producer.image_sources.image_bytes import ImageBytes
from producer.image_sources.options import SourceOptions
from producer.search.entry import Entry
from producer.search.sources import entries
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, json_lines, text_of, write_image

pytestmark = pytest.mark.usefixtures("responder")

NAMES = ("a.ppm", "b c.ppm", "sub/ü.ppm")
#: Files of tables, in another folder than the images, with the options that make their form.
TABLES = {
    "runs/out.jsonl": (),
    "runs/out.csv": (),
    "runs/out.tsv": (),
    "runs/out.parquet": (),
    "runs/out.tar": (),
    "link/out.jsonl": (),
    "photos/out.csv": (),
    "runs/metadata.jsonl": (),
    "runs/meta_cap.json": (),
    "runs/captions.json": (),
    # Names that do not tell the form.
    "runs/odd.json": ("--format", "jsonl"),
    "runs/odd.data": ("--format", "jsonl"),
    "runs/odd.txt": ("--format", "csv"),
    "runs/odd": ("--format", "tsv"),
    "runs/odd.out": ("--format", "parquet"),
    "runs/odd.bin": ("--format", "webdataset"),
    "runs/odd.jsonl": ("--format", "kohya"),
}
#: Tables that contain images.
CONTAINERS = ("runs/out.parquet", "runs/out.tar", "runs/odd.out", "runs/odd.bin")
#: Sources of the same images: a folder, a table of paths, and tables that contain images.
FOLDERS = ("photos", "lists/paths.jsonl")
SOURCES = (*FOLDERS, "hub.parquet", "archive.tar")
Texts = dict[bytes, str]
Reader = Callable[[str, Texts], None]


def read_by_annotate(table: str, texts: Texts) -> None:
    reader = ImageBytes()
    read = {reader.read(p.locator): p.caption for p in pictures([table], SourceOptions())}
    assert read == texts


def read_by_capfilt(table: str, texts: Texts) -> None:
    reader, options = ImageBytes(), SourceOptions(text_column=None, has_texts=True)
    read = {reader.read(pair.locator): [*pair.texts] for pair in read_pairs([table], options)}
    assert read == {image: [text] for image, text in texts.items()}


def read_by_index(table: str, texts: Texts) -> None:
    reader, images = ImageBytes(), set()
    for entry in entries(table):
        assert isinstance(entry, Entry)
        images.add(entry.read(reader)[1])
    assert images == texts.keys()


def read_by_sheet(table: str, texts: Texts) -> None:
    assert run(["sheet", table, "-o", "page.html"]) == Exit.OK
    page = Path("page.html").read_text()
    assert page.count("data:image/jpeg") == len(texts)
    assert all(json.dumps(text) in page for text in texts.values())


def read_by_compare(table: str, texts: Texts) -> None:
    assert run(["compare", table, table, "-o", "page.html"]) == Exit.OK
    assert Path("page.html").read_text().count("data:image/jpeg") == len(texts)


def read_by_evaluate(table: str, texts: Texts) -> None:
    for references, results in (("truth.jsonl", table), (table, "truth.jsonl"), (table, table)):
        scores = score_captions_of(references, results)
        assert scores == {"images": len(texts), "exact_match": 1.0}


def score_captions_of(references: str, results: str) -> dict[str, float]:
    images = read_captioned_images(references)
    given = read_texts(results, image_ids(images)).texts
    scores = score_captions(given, {image.id: image.captions for image in images}).to_json()
    return {name: scores[name] for name in ("images", "exact_match")}


READERS: tuple[Reader, ...] = (
    read_by_annotate,
    read_by_capfilt,
    read_by_index,
    read_by_sheet,
    read_by_compare,
    read_by_evaluate,
)


@pytest.fixture
def texts(tmp_path: Path) -> Texts:
    """Write the sources; return the text of each image by its bytes."""
    paths = [tmp_path / "photos" / name for name in NAMES]
    texts = {}
    for seed, path in enumerate(paths):
        write_image(path, seed)
        texts[path.read_bytes()] = text_of(path)
    for folder in ("runs", "lists", "real/deep"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/deep")
    truth = zip(NAMES, texts.values(), strict=True)
    lines = (json.dumps({"file_name": name, "text": text}) for name, text in truth)
    Path("truth.jsonl").write_text("".join(f"{line}\n" for line in lines))
    rows = [{"file_name": name, "image": f"../photos/{name}"} for name in NAMES]
    Path("lists/paths.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cells = [{"bytes": image, "path": name} for image, name in zip(texts, NAMES, strict=True)]
    table = arrow.Table.from_pylist([{"image": cell} for cell in cells])
    parquet.write_table(table, "hub.parquet")
    return texts


@pytest.mark.parametrize(
    ("source", "table"),
    [
        (source, table)
        for source in SOURCES
        for table in TABLES
        # Other rows name images that only the source contains.
        if source in FOLDERS or table in CONTAINERS
    ],
)
def test_each_table_is_read_by_each_command(texts: Texts, source: str, table: str) -> None:
    if source == "archive.tar":
        assert annotate("photos", "-o", source) == Exit.OK
    assert annotate(source, "-o", table, *TABLES[table]) == Exit.OK
    for read in READERS:
        read(table, texts)


def test_a_table_of_an_earlier_release_resumes_and_gains_its_images(
    texts: Texts, responder: Responder
) -> None:
    assert annotate("photos", "-o", "runs/out.jsonl") == Exit.OK
    rows = json_lines(Path("runs/out.jsonl"))
    earlier = [{name: row[name] for name in ("file_name", "text")} for row in rows]
    Path("runs/out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in earlier))
    assert annotate("photos", "-o", "runs/out.jsonl") == Exit.OK
    assert json_lines(Path("runs/out.jsonl")) == rows
    assert responder.answers == len(texts)
    # Without its journal, its captions stay by their file names.
    Path("runs/.out.jsonl.blipline.db").unlink()
    assert annotate("photos", "-o", "runs/out.jsonl") == Exit.OK
    assert json_lines(Path("runs/out.jsonl")) == rows
    assert responder.answers == len(texts)


@pytest.mark.parametrize("source", ["hub.parquet", "archive.tar"])
@pytest.mark.parametrize("output", ["runs/metadata.jsonl", "runs/meta_cap.json"])
def test_a_table_of_image_files_is_refused_for_images_within_a_file(
    texts: Texts, responder: Responder, source: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if source == "archive.tar":
        assert annotate("photos", "-o", source) == Exit.OK
    capsys.readouterr()
    answers = responder.answers
    assert annotate(source, "-o", output) == Exit.USAGE
    message = capsys.readouterr().err
    assert f"is within {source}: choose -o OUT.parquet or -o OUT.tar" in message
    assert (Path(output).exists(), responder.answers) == (False, answers)


def test_parquet_with_bytes_keeps_the_names_of_its_images_that_differ(
    texts: Texts,
) -> None:
    first, second, third = texts
    paths = {first: "cats/a.ppm", second: "b.ppm", third: "b.ppm"}
    cells = [{"image": {"bytes": image, "path": path}} for image, path in paths.items()]
    parquet.write_table(arrow.Table.from_pylist(cells), "hub.parquet")
    assert annotate("hub.parquet", "-o", "out.parquet", "--captions", "2") == Exit.OK
    rows = parquet.read_table("out.parquet").to_pylist()
    assert [row["file_name"] for row in rows] == ["cats/a.ppm", "00000001", "00000002"]
    assert [row["texts"] for row in rows] == [[text, text] for text in texts.values()]
    assert [row["image"]["bytes"] for row in rows] == [*texts]


@pytest.mark.parametrize("table", ["pairs.parquet", "pairs.csv", "pairs.jsonl", "pairs.tar"])
def test_annotate_converts_the_output_of_capfilt_with_a_row_for_each_text(
    responder: Responder, table: str
) -> None:
    write_image(Path("photos/a.ppm"), 1)
    scores = {"probability": 0.9, "cosine": 0.4}
    accepted = [
        {"image": "photos/a.ppm", "text": "a web text", "source": "web", **scores},
        {"image": "photos/a.ppm", "text": "a synthetic one", "source": "synthetic", **scores},
    ]
    Path("kept.jsonl").write_text("".join(json.dumps(row) + "\n" for row in accepted))
    assert run(["annotate", "kept.jsonl", "-o", table]) == Exit.OK
    assert not responder.answers
    read = list(pictures([table], SourceOptions()))
    rows = [(picture.caption, picture.columns["source"]) for picture in read]
    assert rows == [("a web text", "web"), ("a synthetic one", "synthetic")]
