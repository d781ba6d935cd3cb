"""Tables of other programs that a run completes: their captions are found, and none is lost."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, write_image
from tests.annotate.table_rows import (
    CAPTION,
    MENTIONS,
    TABLES,
    edit,
    read_list,
    read_rows,
    write_list,
)


@pytest.mark.parametrize("table", [*MENTIONS, "t.json"])
@pytest.mark.parametrize("column", ["image", "path"])
@pytest.mark.parametrize("is_absolute", [False, True])
def test_a_caption_whose_row_has_the_path_of_its_image_counts(
    responder: Responder,
    tmp_path: Path,
    texts: dict[str, str],
    table: str,
    column: str,
    is_absolute: bool,
) -> None:
    text = CAPTION.get(table, "text")
    column = "file_name" if table == "t.json" else column
    path = str(tmp_path / "p" / "a.ppm") if is_absolute else "p/a.ppm"
    write_list(table, [{column: path, text: "by hand", "tags": "1girl"}])
    for _ in range(2):
        assert annotate("p", "-o", table) == Exit.OK
        rows = read_rows(table)
        assert {name: row[text] for name, row in rows.items()} == {**texts, "a.ppm": "by hand"}
        assert rows["a.ppm"]["tags"] == "1girl"
        assert len(read_list(table)) == 3
    assert responder.answers == 2


@pytest.mark.parametrize("value", [["two", "texts"], {"x": 1}, 5, True])
@pytest.mark.parametrize("table", ["t.jsonl", "p/metadata.jsonl", "t.json"])
def test_a_caption_that_is_no_text_fails_its_image_and_stays(
    responder: Responder,
    texts: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    table: str,
    value: Any,
) -> None:
    text = CAPTION.get(table, "text")
    name = str(Path("p/a.ppm").resolve()) if table == "t.json" else "a.ppm"
    write_list(table, [{"file_name": name, text: value}])
    for _ in range(2):
        assert annotate("p", "-o", table) == Exit.SOME_FAILED
        error = capsys.readouterr().err
        assert f"its {text!r} is no text: {json.dumps(value)}" in error
        rows = read_rows(table)
        assert {name: row[text] for name, row in rows.items()} == {**texts, "a.ppm": value}


@pytest.mark.parametrize("table", ["t.jsonl", "p/metadata.jsonl", "t.json"])
def test_an_edit_of_a_caption_that_is_no_text_stops_the_command(
    responder: Responder, texts: dict[str, str], capsys: pytest.CaptureFixture[str], table: str
) -> None:
    assert annotate("p", "-o", table) == Exit.OK
    edit(table, lambda rows: rows["a.ppm"].update({CAPTION.get(table, "text"): ["x", "y"]}))
    before = Path(table).read_bytes()
    for arguments in ((), ("--existing", "overwrite")):
        assert annotate("p", "-o", table, *arguments) == Exit.USAGE
        assert "is no text: [" in capsys.readouterr().err
        assert Path(table).read_bytes() == before


@pytest.mark.parametrize("table", [name for name in TABLES if not name.startswith("p/")])
def test_captions_of_others_follow_a_renamed_folder(
    responder: Responder, tmp_path: Path, texts: dict[str, str], table: str
) -> None:
    text = CAPTION.get(table, "text")
    folder = f"{tmp_path}/p/" if table == "t.json" else ""
    write_list(table, [{"file_name": f"{folder}{name}", text: f"hand {name}"} for name in texts])
    assert annotate("p", "-o", table) == Exit.OK
    (tmp_path / "p").rename(tmp_path / "r")
    for _ in range(2):
        assert annotate("r", "-o", table) == Exit.OK
        written = [(Path(row["file_name"]).name, row[text]) for row in read_list(table)]
        assert written == [(name, f"hand {name}") for name in texts]
    assert responder.answers == 0


@pytest.mark.parametrize("table", TABLES)
def test_a_caption_of_others_follows_a_renamed_image(
    responder: Responder, tmp_path: Path, texts: dict[str, str], table: str
) -> None:
    text = CAPTION.get(table, "text")
    folder = f"{tmp_path}/p/" if table == "t.json" else ""
    write_list(table, [{"file_name": f"{folder}b.ppm", text: "by hand", "tags": "x"}])
    assert annotate("p", "-o", table) == Exit.OK
    (tmp_path / "p" / "b.ppm").rename(tmp_path / "p" / "new.ppm")
    for _ in range(2):
        assert annotate("p", "-o", table) == Exit.OK
        rows = read_rows(table)
        assert {name: row[text] for name, row in rows.items()} == {
            "a.ppm": texts["a.ppm"],
            "c.ppm": texts["c.ppm"],
            "new.ppm": "by hand",
        }
        assert rows["new.ppm"]["tags"] == "x"
    assert responder.answers == 2


def test_a_new_image_of_the_time_of_others_gets_no_caption_of_theirs(
    responder: Responder, tmp_path: Path, texts: dict[str, str]
) -> None:
    # As after the extraction of an archive.
    for path in (tmp_path / "p").iterdir():
        os.utime(path, (1, 1))
    write_list("t.csv", [{"file_name": "a.ppm", "text": "by hand"}])
    assert annotate("p", "-o", "t.csv") == Exit.OK
    (tmp_path / "p" / "a.ppm").unlink()
    added = write_image(tmp_path / "p" / "d.ppm", 9)
    os.utime(tmp_path / "p" / "d.ppm", (1, 1))
    assert annotate("p", "-o", "t.csv") == Exit.OK
    rows = read_rows("t.csv")
    assert (rows["a.ppm"]["text"], rows["d.ppm"]["text"]) == ("by hand", added)
