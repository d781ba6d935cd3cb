"""Tables in and out: each form, with paths, URLs and bytes, and a round trip of each."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, image_bytes, json_lines, write_image
from tests.cli.shell import standard_input

URL = "https://images.example.com/cat.jpg"


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table of any form."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return rows
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return json_lines(path)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a table of any form."""
    if path.suffix == ".parquet":
        parquet.write_table(arrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("target", ["out.jsonl", "out.csv", "out.parquet"])
@pytest.mark.parametrize("source", ["in.jsonl", "in.csv", "in.parquet"])
def test_a_table_becomes_a_table_with_its_columns_and_captions(
    responder: Responder, tmp_path: Path, source: str, target: str
) -> None:
    first = write_image(tmp_path / "a b.ppm", 1)
    second = write_image(tmp_path / "deep" / "ü.ppm", 2)
    write_rows(
        tmp_path / source,
        [
            {"path": "a b.ppm", "source": "camera, left"},
            {"path": "deep/ü.ppm", "source": 'a "web"\nsite'},
            {"path": URL, "source": ""},
        ],
    )
    assert annotate(source, "-o", target) == Exit.OK
    expected = [
        {"file_name": "a b.ppm", "source": "camera, left", "text": first},
        {"file_name": "deep/ü.ppm", "source": 'a "web"\nsite', "text": second},
        {"file_name": URL, "source": "", "text": "picture ://image"},
    ]
    expected = [row | {"image": row["file_name"]} for row in expected]
    assert rows_of(tmp_path / target) == expected
    # The output is a source itself: nothing is left to do.
    (tmp_path / "again").mkdir()
    assert annotate(target, "-o", "again/out.jsonl") == Exit.OK
    assert [row["text"] for row in json_lines(tmp_path / "again/out.jsonl")] == [
        row["text"] for row in expected
    ]
    assert responder.answers == 3


def test_parquet_with_bytes_is_read_in_both_forms(responder: Responder, tmp_path: Path) -> None:
    expected = [write_image(tmp_path / f"{n}.ppm", n) for n in range(5)]
    rows = [{"image": {"bytes": image_bytes(n), "path": f"{n}.png"}, "label": n} for n in range(5)]
    # An image that is not embedded.
    rows[3]["image"] = {"bytes": None, "path": "3.ppm"}
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "hub.parquet", row_group_size=2)
    rows = [{"jpg": image_bytes(n), "name": f"n{n}"} for n in range(5)]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "plain.parquet")
    assert annotate("hub.parquet", "-o", "hub.jsonl") == Exit.OK
    assert [(row["label"], row["text"]) for row in json_lines(Path("hub.jsonl"))] == [
        *enumerate(expected)
    ]
    assert annotate("plain.parquet", "-o", "captions/") == Exit.OK
    assert Path("captions/n3.txt").read_text() == expected[3] + "\n"
    assert responder.answers == 5 + 5


def test_types_of_columns_survive_in_parquet(responder: Responder, tmp_path: Path) -> None:
    write_image(tmp_path / "a.ppm", 1)
    row = {"path": "a.ppm", "width": 8, "score": 0.5, "good": True, "tags": ["x", "y"]}
    write_rows(tmp_path / "in.jsonl", [row, {"path": "a.ppm", "width": None}])
    assert annotate("in.jsonl", "-o", "out.parquet") == Exit.OK
    first, second = rows_of(tmp_path / "out.parquet")
    assert (first["width"], first["score"], first["good"]) == (8, 0.5, True)
    assert (first["tags"], second["width"]) == (["x", "y"], None)


def test_hugging_face_image_folders_get_their_metadata(
    responder: Responder, tmp_path: Path
) -> None:
    text = write_image(tmp_path / "data" / "train" / "a.png", 1)
    assert annotate("data", "-o", "data/metadata.jsonl") == Exit.OK
    assert json_lines(tmp_path / "data" / "metadata.jsonl") == [
        {"file_name": "train/a.png", "text": text}
    ]
    assert annotate("data/metadata.jsonl", "-o", "out.csv") == Exit.OK
    row = {"file_name": "train/a.png", "image": "data/train/a.png", "text": text}
    assert rows_of(Path("out.csv")) == [row]
    assert responder.answers == 1


def test_kohyas_metadata_gains_captions_and_keeps_its_tags(
    responder: Responder, tmp_path: Path
) -> None:
    first = write_image(tmp_path / "p" / "a.png", 1)
    write_image(tmp_path / "p" / "b.png", 2)
    a, b = str(tmp_path / "p" / "a.png"), str(tmp_path / "p" / "b.png")
    Path("meta_cap.json").write_text(json.dumps({a: {"tags": "1girl"}, b: {"caption": "mine"}}))
    assert annotate("p", "-o", "meta_cap.json") == Exit.OK
    assert json.loads(Path("meta_cap.json").read_text()) == {
        a: {"tags": "1girl", "caption": first},
        b: {"caption": "mine"},
    }


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_captions_that_a_table_had_before_stay(
    responder: Responder, tmp_path: Path, form: str
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    second = write_image(tmp_path / "p" / "b.png", 2)
    write_rows(Path(f"out.{form}"), [{"file_name": "a.png", "text": "mine"}])
    assert annotate("p", "-o", f"out.{form}") == Exit.OK
    assert {row["file_name"]: row["text"] for row in rows_of(Path(f"out.{form}"))} == {
        "a.png": "mine",
        "b.png": second,
    }
    assert Path(f"out.{form}.bak").exists()


def test_standard_input_has_paths_urls_and_objects(responder: Responder, tmp_path: Path) -> None:
    first = write_image(tmp_path / "a.png", 1)
    second = write_image(tmp_path / "new\nline.png", 2)
    lines = f'a.png\r\n\n{URL}\n{{"image": "a.png", "id": 7}}\n[1]\n'
    with standard_input(lines.encode()):
        assert annotate("-", "-o", "out.jsonl") == Exit.SOME_FAILED
    rows = json_lines(Path("out.jsonl"))
    assert [row["text"] for row in rows] == [first, "picture ://image", first]
    assert rows[2]["id"] == 7
    with standard_input(b"a.png\0new\nline.png"):
        assert annotate("-0", "-") == Exit.OK
    assert Path("new\nline.txt").read_text() == f"{second}\n"


def test_a_file_of_paths_is_a_list(responder: Responder, tmp_path: Path) -> None:
    texts = [write_image(tmp_path / "p" / f"{n}.ppm", n) for n in range(2)]
    Path("list.txt").write_text("p/0.ppm\n\np/1.ppm\n")
    assert annotate("list.txt", "-o", "out.jsonl") == Exit.OK
    assert [row["text"] for row in json_lines(Path("out.jsonl"))] == texts


def test_patterns_and_several_sources(responder: Responder, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for suffix in ("png", "jpg"):
            write_image(tmp_path / folder / f"x.{suffix}", len(folder + suffix) + ord(folder))
    assert annotate("a/*.png", "b", "-o", "out.jsonl") == Exit.OK
    assert [row["file_name"] for row in json_lines(Path("out.jsonl"))] == [
        "a/x.png",
        "b/x.jpg",
        "b/x.png",
    ]


def test_a_pattern_skips_the_caption_files_beside_the_images(
    responder: Responder, tmp_path: Path
) -> None:
    text = write_image(tmp_path / "p" / "a.png", 1)
    assert annotate("p/*") == Exit.OK
    assert annotate("p/*", "-o", "out.jsonl") == Exit.OK
    row = {"file_name": "p/a.png", "image": "p/a.png", "text": text}
    assert json_lines(Path("out.jsonl")) == [row]


def test_cells_of_several_tables_have_names_that_differ(
    responder: Responder, tmp_path: Path
) -> None:
    for name in ("a.parquet", "b.parquet"):
        rows = [{"jpg": image_bytes(len(name) + ord(name[0]))}]
        parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / name)
    assert annotate("a.parquet", "b.parquet", "-o", "out.jsonl") == Exit.OK
    assert [row["file_name"] for row in json_lines(Path("out.jsonl"))] == [
        "a.parquet/00000000",
        "b.parquet/00000000",
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("in.csv", "a,b\n1,2\n", "in.csv: no column with an image: name one with --image-column"),
        ("in.parquet", "no parquet", "in.parquet: "),
        ("in.jsonl", '{"x": 1}\n', None),
    ],
)
def test_a_table_that_cannot_be_used_is_named(
    responder: Responder,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str,
    message: str | None,
) -> None:
    Path(name).write_text(text)
    assert annotate(name, "-o", "out.jsonl") == (Exit.USAGE if message else Exit.SOME_FAILED)
    assert (message or "1 failed") in capsys.readouterr().err
