"""Sources of `blipline capfilt`: each kind of collection, its pictures, texts and names."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
from PIL import Image

from producer.capfilt.stream import PART_PAIRS
from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.annotate.sample_collections import image_bytes
from tests.cli.capfilt_runs import kill_after_the_first_part
from tests.cli.pair_collections import (
    COLLECTIONS,
    FIRST,
    ONE,
    SECOND,
    TWO,
    Expected,
    pictures,
    write,
    write_parquet,
    write_tar,
)
from tests.cli.shell import json_lines, standard_input

Items = list[Mapping[str, Any]]


@pytest.mark.parametrize("collection", COLLECTIONS)
@pytest.mark.usefixtures("workers")
def test_each_kind_of_collection_is_filtered(
    collection: Callable[[], tuple[list[str], list[Expected]]], answered_items: Items
) -> None:
    check(answered_items, *collection())


@pytest.mark.parametrize(
    ("options", "entries"),
    [
        ([], "data/a.png\ndata/deep/b c.png\n"),
        (["-0"], "data/a.png\0data/deep/b c.png\0"),
        (["--format", "jsonl"], f'{{"path": "data/a.png", "text": "{ONE}"}}\ndata/deep/b c.png'),
        (["--format", "csv"], f"image,text\ndata/a.png,{ONE}\ndata/deep/b c.png,{TWO}\n"),
    ],
)
@pytest.mark.usefixtures("workers")
def test_standard_input_has_paths_objects_or_rows(
    options: list[str], entries: str, answered_items: Items
) -> None:
    pictures()
    write("data/a.txt", ONE)
    write("data/deep/b c.txt", TWO)
    expected = [
        Expected("data/a.png", FIRST, [ONE], "1"),
        Expected("data/deep/b c.png", SECOND, [TWO], "2"),
    ]
    with standard_input(entries.encode()):
        check(answered_items, ["-", *options], expected)


def check(answered: Items, arguments: list[str], expected: list[Expected]) -> None:
    """Filter a collection; compare the workers' pictures and texts, and the lines of the output."""
    assert run(["capfilt", *arguments, "-o", "accepted.jsonl", "--captions", "0"]) == Exit.OK
    references = [
        image if isinstance(image, str) else f"blob:{hashlib.sha256(image).hexdigest()}"
        for _, image, _, _ in expected
    ]
    assert [(item["image"], item["texts"]) for item in answered] == [
        (reference, pair.texts) for reference, pair in zip(references, expected, strict=True)
    ]
    lines = json_lines(Path("accepted.jsonl").read_text())
    assert [(line["text"], line.get("custom_id")) for line in lines] == [
        (text, pair.custom_id) for pair in expected for text in pair.texts
    ]
    pairs = [pair for pair in expected for _ in pair.texts]
    for line, pair in zip(lines, pairs, strict=True):
        assert line["image"].endswith(pair.name)
        if Path(line["image"]).is_file():
            assert Path(line["image"]).read_bytes() == pair.image


@pytest.mark.usefixtures("workers")
def test_pairs_that_cannot_be_read_fail_alone_by_name() -> None:
    pictures()
    write("data/a.txt", ONE)
    write("data/empty.png", b"")
    write("data/empty.txt", f"{ONE}\n{TWO}")
    write("data/latin.png", FIRST)
    write("data/latin.txt", "Häuschen 90".encode("latin-1"))
    write("data/unreadable.png", FIRST)
    Path("data/unreadable.txt").mkdir()
    cells: list[dict[str, Any]] = [
        {"jpg": FIRST, "text": ONE},
        {"jpg": None, "text": TWO},
        {"jpg": b"", "text": TWO},
    ]
    write_parquet("cells.parquet", cells)
    write_tar("damaged.tar", {f"{n}.png": FIRST for n in range(3)} | {"0.txt": ONE.encode()})
    data = Path("damaged.tar").read_bytes()
    write("damaged.tar", data[:1024] + b"\xff" * 512 + data[1536:2048])
    write_tar("half.tar", {"0.txt": ONE.encode(), "0.png": FIRST, "1.png": SECOND})
    write("pairs.jsonl", '{"image": "gone.png", "text": "a 90"}\n{"text": "b", "custom_id": 7}\n')
    fsspec.filesystem("memory").pipe_file("/failing/a.png", FIRST)
    sources = [
        "data",
        "cells.parquet",
        "damaged.tar",
        "half.tar",
        "pairs.jsonl",
        "memory://failing",
    ]
    command = ["capfilt", *sources, "-o", "accepted.jsonl", "--rejected", "rejected.jsonl"]
    assert run([*command, "--captions", "0"]) == Exit.SOME_FAILED
    accepted = json_lines(Path("accepted.jsonl").read_text())
    assert [line["image"] for line in accepted] == [
        "data/a.png",
        "cells.parquet/00000000",
        "half.tar/0.png",
    ]
    failures = {
        (line["image"], line["text"]): (line["error"]["code"], line["error"]["message"])
        for line in json_lines(Path("rejected.jsonl").read_text())
    }
    expected = {
        ("data/empty.png", ONE): ("image_invalid", "is empty (0 bytes)"),
        ("data/empty.png", TWO): ("image_invalid", "is empty (0 bytes)"),
        ("data/latin.png", ""): ("option_invalid", "not valid UTF-8"),
        ("data/unreadable.png", ""): (
            "option_invalid",
            "unreadable.txt: not a regular file",
        ),
        ("data/deep/b c.png", ""): ("option_invalid", "no b c.txt or b c.caption beside"),
        ("cells.parquet/00000001", TWO): ("image_invalid", "the cell has no bytes"),
        ("cells.parquet/00000002", TWO): ("image_invalid", "is empty (0 bytes)"),
        ("damaged.tar", ""): ("image_unreachable", "damaged after"),
        ("damaged.tar/0.png", ""): ("option_invalid", "has no text for this image"),
        ("half.tar/1.png", ""): ("option_invalid", "has no text for this image"),
        ("gone.png", "a 90"): ("image_unreachable", "No such file"),
        ("pairs.jsonl line 2", ""): ("image_unreachable", "no column with an image"),
        ("a.png", ""): ("option_invalid", "has no text for this image"),
    }
    assert failures.keys() == expected.keys()
    for name, (code, message) in expected.items():
        assert failures[name][0] == code, name
        assert message in failures[name][1], name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such"], "no/such: no such file or folder"),
        (["*.parquet"], "*.parquet: no file matches"),
        (
            ["rows.csv"],
            "rows.csv: no column with a text: name one with --text-column; columns: image",
        ),
        (["rows.csv", "--text-column", "alt"], "rows.csv: no column alt: name one with"),
        (["rows.parquet"], "rows.parquet: no column with a text"),
        (["broken.parquet"], "broken.parquet: "),
        (["quoted.csv"], "quoted.csv: line 2: not CSV"),
        (["memory://shards/0.tar"], "memory://shards/0.tar: tables and archives are read from"),
        (["gs://bucket/prefix"], "gs://bucket/prefix: "),
        (["-", "--calibrate", "-"], "- is standard input, which can be read once"),
    ],
)
def test_a_source_that_cannot_be_used_is_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("rows.csv", "image,more\na.png,b\n")
    write_parquet("rows.parquet", [{"image": FIRST, "more": "b"}])
    write("broken.parquet", "no parquet")
    write("quoted.csv", 'image,text\na,"b\n')
    if arguments == ["*.parquet"]:
        Path("rows.parquet").unlink()
        Path("broken.parquet").unlink()
    # Without a worker, a source that is read waits in vain.
    assert run(["capfilt", *arguments, "-o", "accepted.jsonl", "--timeout", "5"]) == Exit.USAGE
    assert message in capsys.readouterr().err
    assert not Path("accepted.jsonl").exists()


def test_columns_and_options_are_checked_before_redis_is_needed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nowhere = ["-o", "accepted.jsonl", "--redis-url", "redis://127.0.0.1:1"]
    write("rows.csv", "image,more\na.png,b\n")
    write("pairs.csv", "image,text\na.png,b\n")
    for sources in (["rows.csv"], ["pairs.csv", "--calibrate", "rows.csv"]):
        assert run(["capfilt", *sources, *nowhere]) == Exit.USAGE
        assert "rows.csv: no column with a text" in capsys.readouterr().err
    options = ["--min-new-tokens", "30", "--max-new-tokens", "20"]
    for command in (["capfilt", "pairs.csv", *nowhere], ["annotate", "pairs.csv", *nowhere]):
        assert run([*command, *options]) == Exit.USAGE
        assert "min_new_tokens exceeds max_new_tokens" in capsys.readouterr().err


def test_a_source_without_its_package_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet("rows.parquet", [{"image": FIRST, "text": ONE}])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert run(["capfilt", "rows.parquet", "-o", "accepted.jsonl"]) == Exit.USAGE
    assert "this needs pyarrow" in (message := capsys.readouterr().err)
    assert "pip install '.[annotate]'" in message


@pytest.mark.usefixtures("workers")
def test_a_folder_without_pictures_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    write_tar("shards/0.tar", {"0.png": FIRST, "0.txt": ONE.encode()})
    assert run(["capfilt", "shards", "-o", "accepted.jsonl"]) == Exit.OK
    assert "no pairs; name archives and tables by a pattern" in capsys.readouterr().err


@pytest.mark.usefixtures("workers")
def test_the_report_shows_pictures_of_archives_and_folders() -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(file, "PNG")
    write("data/a.png", file.getvalue())
    write("data/a.txt", "a 51")
    write_tar("in.tar", {"b.png": file.getvalue(), "b.txt": b"b 52"})
    command = ["capfilt", "data", "in.tar", "-o", "accepted.jsonl", "--captions", "0"]
    assert run([*command, "--report", "report"]) == Exit.OK
    assert Path("report/closest.html").read_text().count("data:image/jpeg;base64,") == 2


def test_a_killed_run_over_a_folder_resumes_unless_its_pictures_have_changed(
    answer_chunk: Callable[[], bool],
    request: pytest.FixtureRequest,
    answered_items: Items,
    capsys: pytest.CaptureFixture[str],
) -> None:
    count = PART_PAIRS + 100
    for number in range(count):
        write(f"data/{number:04}.ppm", image_bytes(number, 1, 1))
        write(f"data/{number:04}.txt", f"t{number} 60")
    command = ["capfilt", "data", "-o", "accepted.jsonl", "--captions", "0"]
    kill_after_the_first_part(command, answer_chunk, chunks_after=1)
    for number, pairs in ((7, "first 2,048 pairs"), (PART_PAIRS + 1, "following pairs")):
        path = Path(f"data/{number:04}.ppm")
        status = path.stat()
        path.write_bytes(image_bytes(count, 1, 1))
        os.utime(path, ns=(0, 0))
        assert run(command) == Exit.USAGE
        assert f"the {pairs} are not those of the interrupted run" in capsys.readouterr().err
        path.write_bytes(image_bytes(number, 1, 1))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    request.getfixturevalue("workers")
    assert run(command) == Exit.OK
    lines = json_lines(Path("accepted.jsonl").read_text())
    assert [line["text"] for line in lines] == [f"t{number} 60" for number in range(count)]
    assert len(answered_items) == count, "no pair was submitted twice"
