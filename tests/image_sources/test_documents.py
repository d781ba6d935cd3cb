"""JSON documents: lone surrogates, which names that are not UTF-8 have, and damage."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from producer.errors import InvalidInput
from producer.image_sources.documents import document_rows

NAME = os.fsdecode(b"latin-\xe9.png")
ROWS = [{"file_name": NAME, "text": "a star"}, {"file_name": "b.png", "text": "a circle"}]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        "\n".join(map(json.dumps, ROWS)),
        json.dumps({row["file_name"]: {"caption": row["text"]} for row in ROWS}),
    ],
    ids=["list", "lines", "metadata"],
)
def test_names_that_are_not_utf8_are_read_from_each_form(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    assert [row for _, row in document_rows(str(path))] == ROWS


@pytest.mark.parametrize(
    "damage", ["[" * 100_000 + "]" * 100_000, "[1,]", '"\\u"', "\\udc00"], ids=lambda d: d[:6]
)
def test_damage_after_a_lone_surrogate_is_an_error_with_its_line(
    tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a":"\\udce9","b":{damage}}}')
    with pytest.raises(InvalidInput, match="line 1: not JSON"):
        list(document_rows(str(path)))
