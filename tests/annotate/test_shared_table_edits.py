"""Rows of one name, interrupted runs, common journals and odd files: no edit of a table is lost."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, write_image
from tests.annotate.table_rows import (
    CAPTION,
    MENTIONS,
    TABLES,
    Row,
    edit,
    read_list,
    read_rows,
    write_list,
)
from tests.cli.shell import PROGRAM


def write_lines(path: str, rows: list[Row]) -> None:
    Path(path).write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def change_list(table: str, column: str, values: Mapping[str, str], new: Row) -> None:
    """Change the rows whose column has one of these texts: its text follows, and `new` is added."""
    rows = read_list(table)
    for row in rows:
        if row[column] in values:
            row |= {column: values[row[column]], **new}
    write_list(table, rows)


@pytest.mark.parametrize("table", TABLES)
def test_images_of_one_name_keep_their_own_edits(
    responder: Responder, tmp_path: Path, table: str
) -> None:
    text = CAPTION.get(table, "text")
    texts = [write_image(tmp_path / folder / "a.ppm", ord(folder)) for folder in "pqr"]
    for folder in "pqr":
        assert annotate(folder, "-o", table) == Exit.OK
    assert [row[text] for row in read_list(table)] == texts
    change_list(table, text, {texts[0]: "first", texts[2]: "third"}, {"tags": "x"})
    rows = read_list(table)
    write_list(table, rows[::-1])
    for folder in "rqpr":
        assert annotate(folder, "-o", table) == Exit.OK
        assert sorted(row[text] for row in read_list(table)) == sorted(["first", texts[1], "third"])
        tags = {row[text]: row.get("tags") or None for row in read_list(table)}
        assert tags == {"first": "x", texts[1]: None, "third": "x"}
    if table in MENTIONS:
        images = {row[text]: row["image"] for row in read_list(table)}
        assert images == {"first": "p/a.ppm", texts[1]: "q/a.ppm", "third": "r/a.ppm"}


@pytest.mark.parametrize("table", MENTIONS)
def test_mentions_of_one_image_keep_their_own_edits(
    responder: Responder, texts: dict[str, str], table: str
) -> None:
    source = [{"path": "p/a.ppm", "id": f"n{number}"} for number in range(4)]
    write_lines("in.jsonl", [*source, {"path": "p/b.ppm", "id": "b"}])
    assert annotate("in.jsonl", "-o", table) == Exit.OK
    rows = {row["id"]: row for row in read_list(table)}
    assert len(rows) == 5
    rows["n1"] |= {"text": "by hand", "tags": "x"}
    rows["n3"] |= {"tags": "y"}
    write_list(table, list(rows.values())[::-1])
    # Another image before them, and none of them moves.
    write_lines(
        "in.jsonl", [{"path": "p/c.ppm", "id": "c"}, *source, {"path": "p/b.ppm", "id": "b"}]
    )
    for _ in range(2):
        assert annotate("in.jsonl", "-o", table) == Exit.OK
        changed = {row["id"]: (row["text"], row.get("tags") or None) for row in read_list(table)}
        a = texts["a.ppm"]
        assert len(read_list(table)) == 6
        assert changed["n0"] == changed["n2"] == (a, None)
        assert (changed["n1"], changed["n3"]) == (("by hand", "x"), (a, "y"))
    assert responder.answers == 3


@pytest.mark.parametrize("table", MENTIONS)
def test_further_rows_of_an_image_stay(
    responder: Responder, texts: dict[str, str], table: str
) -> None:
    assert annotate("p", "-o", table) == Exit.OK
    rows = read_list(table)
    further = [{**rows[0], "text": f"further {number}"} for number in range(3)]
    write_list(
        table, [*rows, *further, *({"file_name": "z.png", "text": f"z{n}"} for n in range(2))]
    )
    for arguments in ((), ("--prompt", "x"), ("--existing", "overwrite", "--prompt", "y")):
        assert annotate("p", "-o", table, *arguments) == Exit.OK
        written = [row["text"] for row in read_list(table)]
        expected = [*texts.values(), *(row["text"] for row in further), "z0", "z1"]
        assert sorted(written) == sorted(expected)


@pytest.mark.parametrize("table", MENTIONS)
def test_rows_of_others_keep_the_column_of_their_image(
    responder: Responder, texts: dict[str, str], table: str
) -> None:
    theirs = [{"path": "z.png", "text": "of path"}, {"url": "http://x/y.png", "text": "of url"}]
    write_list(table, theirs)
    for _ in range(2):
        assert annotate("p", "-o", table) == Exit.OK
        rows = {row["text"]: row for row in read_list(table)}
        for row in theirs:
            values = {name: value for name, value in rows[row["text"]].items() if value}
            assert values == row
        assert len(rows) == 5


@pytest.mark.parametrize(
    "table",
    [
        *("t.csv", "t.parquet", "t.json"),
        *(
            pytest.param(table, marks=pytest.mark.exhaustive)
            for table in ("t.jsonl", "t.tsv", "p/metadata.jsonl")
        ),
    ],
)
def test_an_edit_between_a_killed_run_and_its_continuation_stays_and_no_older_text(
    responder: Responder, tmp_path: Path, table: str
) -> None:
    text = CAPTION.get(table, "text")
    for number in range(150):
        write_image(tmp_path / "p" / f"{number:03}.ppm", number)
    assert annotate("p", "-o", table) == Exit.OK
    requests: list[object] = []

    def newer(item: Mapping[str, Any], options: object) -> str:
        requests.append(item)
        if len(requests) == 100:
            # The command stores what it has so far.
            time.sleep(2)
            process.kill()
        return f"newer {item['image'][5:13]}"

    responder.text_of = newer
    overwrite = ["annotate", "p", "-o", table, "--existing", "overwrite", "--prompt", "x"]
    process = subprocess.Popen(
        [*PROGRAM, *overwrite], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    process.wait()
    edited = {f"{number:03}.ppm" for number in range(0, 150, 10)}
    edit(table, lambda rows: [rows[name].update({text: "by hand"}) for name in edited])  # type: ignore[arg-type]
    for _ in range(2):
        assert annotate(*overwrite[1:]) == Exit.OK
        for name, row in read_rows(table).items():
            assert row[text].startswith("by hand" if name in edited else "newer "), name
    # A run with other options overwrites them.
    assert annotate(*overwrite[1:-1], "y") == Exit.OK
    assert all(row[text].startswith("newer ") for row in read_list(table))


@pytest.mark.parametrize("table", TABLES)
def test_an_edit_during_a_run_stays(
    responder: Responder, tmp_path: Path, texts: dict[str, str], table: str
) -> None:
    text = CAPTION.get(table, "text")
    assert annotate("p", "-o", table) == Exit.OK
    write_image(tmp_path / "p" / "d.ppm", 9)

    def edits(item: Mapping[str, Any], options: object) -> str:
        edit(table, lambda rows: rows["a.ppm"].update({text: "by hand", "tags": "x"}))
        return "a text"

    responder.text_of = edits
    assert annotate("p", "-o", table) == Exit.OK
    rows = read_rows(table)
    assert (rows["a.ppm"][text], rows["a.ppm"]["tags"]) == ("by hand", "x")
    assert (rows["b.ppm"][text], rows["d.ppm"][text]) == (texts["b.ppm"], "a text")


@pytest.mark.parametrize("table", TABLES)
def test_tables_and_files_of_one_journal_do_not_mix(
    responder: Responder, tmp_path: Path, texts: dict[str, str], table: str
) -> None:
    text = CAPTION.get(table, "text")
    text_of_z = write_image(tmp_path / "q" / "z.ppm", 7)
    common = ("--journal", "j.db", "--existing", "append")
    for _ in range(3):
        assert annotate("p", "-o", table, *common) == Exit.OK
        assert annotate("q", "-o", "other.csv", *common) == Exit.OK
        assert annotate("p", "-o", "files/", *common) == Exit.OK
        assert {name: row[text] for name, row in read_rows(table).items()} == texts
        assert [row["text"] for row in read_list("other.csv")] == [text_of_z]
    assert len(list(Path("files").iterdir())) == 3
    assert responder.answers == 4


@pytest.mark.parametrize("table", MENTIONS)
def test_another_text_column_leaves_the_earlier_one(
    responder: Responder, texts: dict[str, str], table: str
) -> None:
    assert annotate("p", "-o", table) == Exit.OK
    edit(table, lambda rows: rows["a.ppm"].update(text="by hand", tags="x"))
    for column, earlier in (("cap", "text"), ("text", "cap"), ("cap", "text")):
        before = {name: row.get(earlier) for name, row in read_rows(table).items()}
        assert annotate("p", "-o", table, "--text-column", column) == Exit.OK
        rows = read_rows(table)
        assert {name: row.get(earlier) for name, row in rows.items()} == before
        assert rows["a.ppm"]["tags"] == "x"
    assert {name: row["cap"] for name, row in rows.items()} == texts
    assert {name: row["text"] for name, row in rows.items()} == {**texts, "a.ppm": "by hand"}
    assert responder.answers == 3


@pytest.mark.parametrize("table", [*MENTIONS, "p/metadata.jsonl"])
@pytest.mark.parametrize("is_edited", [False, True])
def test_answers_keep_the_questions_that_they_were_made_with(
    responder: Responder, tmp_path: Path, texts: dict[str, str], table: str, is_edited: bool
) -> None:
    def questions(name: str) -> list[str]:
        answers = read_rows(table)[name]["answers"]
        parts = json.loads(answers) if isinstance(answers, str) else answers
        return [part["question"] for part in parts]

    assert annotate("p", "-o", table, "--ask", "who?", "--ask", "where?") == Exit.OK
    if is_edited:
        edit(table, lambda rows: rows["a.ppm"].update(text="by hand"))
    write_image(tmp_path / "p" / "d.ppm", 9)
    for _ in range(2):
        assert annotate("p", "-o", table, "--ask", "when?", "--ask", "why?") == Exit.OK
        assert questions("a.ppm") == questions("b.ppm") == ["who?", "where?"]
        assert questions("d.ppm") == ["when?", "why?"]


@pytest.mark.parametrize("line", range(1, 5))
@pytest.mark.parametrize("damage", ["cell", "quote"])
@pytest.mark.parametrize("table", ["t.csv", "t.tsv"])
def test_a_damaged_row_of_a_sheet_is_named_and_nothing_is_written(
    responder: Responder,
    texts: dict[str, str],
    table: str,
    damage: str,
    line: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    delimiter = "," if table == "t.csv" else "\t"
    rows = [
        f"{n}.png{delimiter}text {n}{delimiter}" + ('"quoted"' if n == 3 else "x") for n in range(4)
    ]
    lines = [delimiter.join(("file_name", "text", "tags")), *rows]
    lines[line] += f"{delimiter}more" if damage == "cell" else ""
    if damage == "quote":
        lines[line] = lines[line].replace("text ", '"text ')
    Path(table).write_text("\n".join(lines) + "\n")
    before = Path(table).read_bytes()
    assert annotate("p", "-o", table) == Exit.USAGE
    assert f"{table} line {line + 1}" in capsys.readouterr().err
    assert (Path(table).read_bytes(), Path(f"{table}.bak").exists()) == (before, False)


@pytest.mark.parametrize("value", [b"x", [b"x"], {"y": b"x"}, {"bytes": b"x", "path": "z.png"}])
def test_bytes_of_others_in_parquet_are_refused_before_anything_is_written(
    responder: Responder, texts: dict[str, str], value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    for is_first in (True, False):
        if not is_first:
            Path("t.parquet").unlink()
            assert annotate("p", "-o", "t.parquet") == Exit.OK
        rows = [{"file_name": "z.png", "embedding": value}]
        parquet.write_table(arrow.Table.from_pylist(rows), "t.parquet")
        before = Path("t.parquet").read_bytes()
        assert annotate("p", "-o", "t.parquet") == Exit.USAGE
        assert "its column 'embedding' has bytes" in capsys.readouterr().err
        assert Path("t.parquet").read_bytes() == before


@pytest.mark.parametrize("table", MENTIONS)
def test_names_that_are_not_utf_8_keep_their_edits(
    responder: Responder, tmp_path: Path, table: str
) -> None:
    names = [os.fsdecode(name) for name in (b"\xe9.ppm", b"\xff\x80.ppm", "é.ppm".encode())]
    texts = [write_image(tmp_path / "p" / name, number) for number, name in enumerate(names)]
    assert annotate("p", "-o", table) == Exit.OK
    change_list(table, "text", {texts[1]: "by hand", texts[2]: "other"}, {"tags": "x"})
    for _ in range(2):
        assert annotate("p", "-o", table) == Exit.OK
        assert {row["text"] for row in read_list(table)} == {texts[0], "by hand", "other"}
        assert len(read_list(table)) == 3
    # The table is a source of the same images.
    assert annotate(table, "-o", "again.jsonl", "--existing", "overwrite") == Exit.OK
    assert {row["text"] for row in read_list("again.jsonl")} == set(texts)


@pytest.mark.parametrize("table", TABLES)
def test_copies_in_a_renamed_folder_keep_their_own_edits(
    responder: Responder, tmp_path: Path, texts: dict[str, str], table: str
) -> None:
    text = CAPTION.get(table, "text")
    for name in ("1.ppm", "2.ppm"):
        (tmp_path / "p" / name).write_bytes((tmp_path / "p" / "a.ppm").read_bytes())
    table = table.removeprefix("p/")
    assert annotate("p", "-o", table) == Exit.OK
    edits = {"1.ppm": "first", "2.ppm": "second", "a.ppm": "third"}
    edit(table, lambda rows: [rows[n].update({text: e, "tags": e}) for n, e in edits.items()])  # type: ignore[arg-type]
    assert annotate("p", "-o", table) == Exit.OK
    (tmp_path / "p").rename(tmp_path / "q")
    for _ in range(2):
        assert annotate("q", "-o", table) == Exit.OK
        rows = read_rows(table)
        assert len(read_list(table)) == 5
        assert {name: (rows[name][text], rows[name]["tags"]) for name in edits} == {
            name: (edited, edited) for name, edited in edits.items()
        }


@pytest.mark.parametrize("table", TABLES)
def test_a_journal_of_an_earlier_release_resumes(
    responder: Responder, texts: dict[str, str], table: str
) -> None:
    text = CAPTION.get(table, "text")
    several = () if table == "t.json" else ("--ask", "who?", "--ask", "where?")
    assert annotate("p", "-o", table, *several) == Exit.OK
    before = read_list(table)
    journal = Path(table).parent / f".{Path(table).name}.blipline.db"
    with sqlite3.connect(journal) as database:
        database.executescript(
            "ALTER TABLE items DROP COLUMN questions; DROP TABLE written; DROP TABLE table_rows;"
            "CREATE TABLE file_rows (name BLOB, position INTEGER);"
            "DELETE FROM meta WHERE name = 'output';"
            "UPDATE meta SET name = 'imported' WHERE name LIKE 'imported %';"
            "UPDATE meta SET name = 'written' WHERE name LIKE 'written %';"
            "UPDATE meta SET value = '1' WHERE name = 'version';"
        )
    database.close()
    answers = responder.answers
    assert annotate("p", "-o", table, *several) == Exit.OK
    assert read_list(table) == before
    edit(table, lambda rows: rows["a.ppm"].update({text: "by hand"}))
    assert annotate("p", "-o", table, *several) == Exit.OK
    assert read_rows(table)["a.ppm"][text] == "by hand"
    assert responder.answers == answers
