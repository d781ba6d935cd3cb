"""Outputs in all forms become entries of a sheet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from producer.errors import InvalidInput
from producer.sheets.entry import SheetEntry
from producer.sheets.reader import read_entries


def written(folder: Path, name: str, *rows: Any) -> str:
    path = folder / name
    path.write_text(
        "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    )
    return str(path)


@pytest.mark.parametrize(
    ("row", "entry"),
    [
        (
            {"file_name": "a/cat.jpg", "text": "a cat", "score": 0.5},
            SheetEntry("a/cat.jpg", "a/cat.jpg", "a cat", fields={"score": "0.5"}),
        ),
        (
            {"custom_id": "7", "status": "ok", "text": "a cat"},
            SheetEntry("7", None, "a cat", fields={"custom_id": "7"}),
        ),
        (
            {"custom_id": "7", "status": "error", "error": {"code": "c", "message": "no image"}},
            SheetEntry("7", None, "", "no image", {"custom_id": "7", "status": "error"}),
        ),
        (
            {"image_id": 391895, "caption": "a man"},
            SheetEntry("391895", None, "a man", fields={"image_id": "391895"}),
        ),
        (
            {
                "image": "cat.jpg",
                "answers": [{"question": "what?", "text": "a cat"}, {"text": "b"}],
            },
            SheetEntry("cat.jpg", "cat.jpg", "what? a cat\nb"),
        ),
        (
            {"image": "cat.jpg", "text": "one", "texts": ["one", "two"]},
            SheetEntry("cat.jpg", "cat.jpg", "one\ntwo"),
        ),
        (
            {"image": "cat.jpg", "matches": [{"text": "a cat", "probability": 0.98765}]},
            SheetEntry("cat.jpg", "cat.jpg", "0.988 a cat"),
        ),
        (
            {"image": "cat.jpg", "embedding": [0.1] * 512},
            SheetEntry("cat.jpg", "cat.jpg", ""),
        ),
        (
            {"image": "data:image/png;base64,AA", "text": "x"},
            SheetEntry("1", "data:image/png;base64,AA", "x"),
        ),
        ({"text": "no name"}, SheetEntry("1", None, "no name")),
    ],
)
def test_a_row_of_any_output_is_an_entry(
    tmp_path: Path, row: dict[str, Any], entry: SheetEntry
) -> None:
    assert read_entries(written(tmp_path, "out.jsonl", row)) == [entry]
    assert read_entries(written(tmp_path, "out.json", [row])) == [entry]


def test_a_table_has_an_entry_for_each_row(tmp_path: Path) -> None:
    table = (
        "\ufefffile_name,text,texts,error_message\r\n"
        '"a, b.jpg","a ""cat""\non a mat",,\r\n'
        'c.jpg,one,"[""one"", ""two""]",\r\n'
        "d.jpg,,,no image\r\n"
    )
    entries = read_entries(written(tmp_path, "out.csv", table))
    assert [(entry.name, entry.text, entry.error) for entry in entries] == [
        ("a, b.jpg", 'a "cat"\non a mat', None),
        ("c.jpg", "one\ntwo", None),
        ("d.jpg", "", "no image"),
    ]
    assert read_entries(written(tmp_path, "out.tsv", "image\tcaption\na.jpg\ta cat\n")) == [
        SheetEntry("a.jpg", "a.jpg", "a cat")
    ]


def test_the_items_of_a_batch_name_the_images_of_its_results(tmp_path: Path) -> None:
    items = written(
        tmp_path,
        "items.jsonl",
        {"custom_id": "x", "image": "x.jpg", "question": "why?"},
        {"image": "y.jpg"},
    )
    results = written(
        tmp_path, "out.jsonl", {"custom_id": "2", "text": "b"}, {"custom_id": "x", "text": "a"}
    )
    first, second = read_entries(results, items)
    assert (first.image, first.text) == ("y.jpg", "b")
    assert (second.image, second.fields["question"]) == ("x.jpg", "why?")


def test_a_folder_has_an_entry_for_each_image_with_a_caption_file(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("b.jpg", "b.txt", "inner/a.PNG", "inner/a.caption", "alone.jpg", "lonely.txt"):
        (tmp_path / name).write_text(f"{name}\n")
    entries = read_entries(str(tmp_path))
    assert [(entry.name, entry.text) for entry in entries] == [
        ("b.jpg", "b.txt"),
        ("inner/a.PNG", "inner/a.caption"),
    ]
    assert entries[1].image == str(tmp_path / "inner" / "a.PNG")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("out.jsonl", '{"text": "a"}\n{', "line 2: not JSON"),
        ("out.jsonl", "[", "not JSON"),
        ("out.jsonl", '"a"', "line 1: not an object"),
        ("out.json", "[1]", "entry 1: not an object"),
        ("out.jsonl", "\n", "nothing to show"),
        ("out.csv", "text\n", "nothing to show"),
        ("out.parquet", "PAR1", "Parquet file size is 4 bytes"),
        ("out.png", "PNG", "line 1: not JSON: .* Known forms are JSON lines"),
    ],
)
def test_an_invalid_output_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=rf"{name}: ?.*{message}"):
        read_entries(written(tmp_path, name, content))


def test_a_missing_output_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"missing\.jsonl: cannot be read"):
        read_entries("missing.jsonl")
