"""Hostile lists: byte order marks, JSON that is no object, long lines, paths that cannot exist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from producer.image_sources.arguments import pictures
from producer.image_sources.options import SourceOptions
from producer.image_sources.picture import Picture
from producer.search.entry import Entry, Unreadable
from producer.search.sources import entries
from tests.cli.shell import standard_input

NO_OBJECTS = ["[1]", "null", "1", "-1.5", '"p/1.png"', '[{"image": "a.png"}]', "true", " [] "]


@pytest.fixture(autouse=True)
def working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start in an empty folder."""
    monkeypatch.chdir(tmp_path)


def read(name: str, lines: bytes, has_texts: bool = False) -> list[Picture]:
    Path(name).write_bytes(lines)
    return list(pictures([name], SourceOptions(has_texts=has_texts)))


def indexed(name: str, lines: bytes) -> list[Entry | Unreadable]:
    Path(name).write_bytes(lines)
    return list(entries(name))


@pytest.mark.parametrize("line", ['{"image": "a.png"}', "a.png"])
def test_a_byte_order_mark_is_no_part_of_the_first_line(line: str) -> None:
    lines = f"\ufeff{line}\n{line}\n".encode()
    for has_texts in (False, True):
        assert [p.name for p in read("in.jsonl", lines, has_texts)] == ["a.png"] * 2
    assert [entry.name for entry in indexed("in.jsonl", lines)] == ["a.png"] * 2


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson"])
def test_a_line_of_a_json_file_that_is_no_object_fails_alone(suffix: str) -> None:
    lines = "\n".join([*NO_OBJECTS, '{"image": "a.png"}', "b.png", "[1].png"]).encode()
    name = f"in.{suffix}"
    for has_texts in (False, True):
        *broken, first, second, third = read(name, lines, has_texts)
        for number, picture in enumerate(broken, start=1):
            assert picture.locator.kind == "error"
            assert picture.locator.address.startswith(f"line {number}: not an object")
            assert picture.number == number
        assert [first.name, second.name, third.name] == ["a.png", "b.png", "[1].png"]
    messages = [e.message for e in indexed(name, lines) if isinstance(e, Unreadable)]
    assert len(messages) == len(NO_OBJECTS)
    assert all("not an object" in message for message in messages)


def test_a_plain_list_has_any_path() -> None:
    lines = "\n".join(NO_OBJECTS).encode()
    with standard_input(lines):
        assert [picture.name for picture in pictures(["-"], SourceOptions())] == NO_OBJECTS
    assert [picture.name for picture in read("in.txt", lines, has_texts=True)] == NO_OBJECTS
    assert [entry.name for entry in indexed("in.txt", lines)] == NO_OBJECTS


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("x" * 100_000, "longer than a file name can be: 'xxx"),
        ("x/" * 50_000, "longer than a path can be: 'x/x"),
        ("\ud800.png", "lone surrogate"),
        ("a\0b", "NUL character"),
    ],
)
def test_a_path_that_no_file_can_have_is_quoted_briefly(path: str, message: str) -> None:
    objects = json.dumps({"image": path}).encode() + b"\n"
    (picture,) = read("in.jsonl", objects)
    assert message in picture.locator.address
    assert len(picture.locator.address) < 160
    assert picture.name == "in.jsonl line 1"
    (entry,) = indexed("in.jsonl", objects)
    assert isinstance(entry, Unreadable)
    assert message in entry.message
    assert len(entry.message) < 160


@pytest.mark.parametrize("lines", ["x" * 100_000, json.dumps({"x" * 100_000: 1})])
def test_a_long_line_is_quoted_briefly(lines: str) -> None:
    (picture,) = read("in.jsonl", lines.encode())
    assert len(picture.name) < 100
    assert len(picture.locator.address) < 300
