"""Lines of a .jsonl that are no JSON: each is an error of its line, not a path that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.image_sources.arguments import pictures
from producer.image_sources.options import SourceOptions
from producer.search import sources
from producer.search.entry import Unreadable

LINE = '{"image": "cat.jpg", "text": "a cat"}'
#: A line that was cut or damaged at each place.
BROKEN = (LINE[1:], LINE[:-1], LINE[5:], LINE[:20], "cat", "]", '"', "a.png: a cat", LINE + "}")
#: Lines that are references, also of a file that is missing now.
REFERENCES = ("cat.jpg", "deep/missing cat.PNG", "https://example.com/x", "odd name")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start in a folder with a file whose name is no image's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd name").write_bytes(b"")


@pytest.mark.parametrize("line", BROKEN)
def test_a_damaged_line_is_an_error_that_names_it(line: str) -> None:
    Path("x.jsonl").write_text(f"{LINE}\n{line}\n")
    for has_texts in (False, True):
        _, broken = pictures(["x.jsonl"], SourceOptions(has_texts=has_texts))
        assert (broken.locator.kind, broken.name) == ("error", "x.jsonl line 2")
        assert "not JSON" in broken.locator.address
    _, unreadable = sources.entries("x.jsonl")
    assert isinstance(unreadable, Unreadable)
    assert unreadable.name.endswith("x.jsonl line 2")
    assert "not JSON" in unreadable.message


@pytest.mark.parametrize("line", REFERENCES)
def test_a_path_or_url_stays_one(line: str) -> None:
    Path("x.jsonl").write_text(f"{line}\n")
    (picture,) = pictures(["x.jsonl"], SourceOptions())
    assert (picture.name, picture.locator.kind != "error") == (line, True)
    (entry,) = sources.entries("x.jsonl")
    assert not isinstance(entry, Unreadable)
