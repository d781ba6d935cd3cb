"""Tables that people and other programs change between runs: what they wrote stays."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from producer.annotate.storage.journal import Journal
from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, write_image
from tests.annotate.table_rows import CAPTION, TABLES, Rows, edit, read_rows


@pytest.mark.parametrize("table", TABLES)
def test_edited_texts_and_rows_and_columns_of_others_stay(
    responder: Responder, tmp_path: Path, texts: dict[str, str], table: str
) -> None:
    text = CAPTION.get(table, "text")
    assert annotate("p", "-o", table) == Exit.OK

    def change(rows: Rows) -> None:
        rows["a.ppm"][text] = "by hand"
        rows["b.ppm"]["tags"] = "1girl"
        rows["z.png"] = {text: "of another program", "tags": "zz"}

    edit(table, change)
    added = write_image(tmp_path / "p" / "d.ppm", 9)
    for _ in range(3):
        assert annotate("p", "-o", table) == Exit.OK
        rows = read_rows(table)
        assert {name: row[text] for name, row in rows.items()} == {
            **texts,
            "a.ppm": "by hand",
            "d.ppm": added,
            "z.png": "of another program",
        }
        assert (rows["b.ppm"]["tags"], rows["z.png"]["tags"]) == ("1girl", "zz")
    assert responder.answers == 4
    # Captions of another kind leave them by default, and append to them if they are to.
    assert annotate("p", "-o", table, "--prompt", "x") == Exit.OK
    assert read_rows(table)["a.ppm"][text] == "by hand"
    assert annotate("p", "-o", table, "--existing", "append") == Exit.OK
    assert read_rows(table)["a.ppm"][text] == f"by hand, {texts['a.ppm']}"
    assert read_rows(table)["z.png"][text] == "of another program"
    # Who asks for it replaces them.
    edit(table, lambda rows: rows["b.ppm"].update({text: "again by hand"}))
    assert annotate("p", "-o", table, "--existing", "overwrite", "--prompt", "y") == Exit.OK
    assert read_rows(table)["a.ppm"][text] == texts["a.ppm"]
    assert read_rows(table)["b.ppm"] == {**read_rows(table)["b.ppm"], text: texts["b.ppm"]}
    assert read_rows(table)["b.ppm"]["tags"] == "1girl"


@pytest.mark.parametrize("table", [*TABLES, "t.tar"])
def test_a_narrower_or_empty_selection_removes_nothing(
    responder: Responder, tmp_path: Path, texts: dict[str, str], table: str
) -> None:
    read = read_samples if table == "t.tar" else read_rows
    assert annotate("p", "-o", table) == Exit.OK
    (tmp_path / "empty").mkdir()
    for selection in (
        ["p", "--where", "side>=12"],
        ["p", "--sample", "1"],
        ["p", "--sample", "1", "--sample-seed", "5", "--existing", "overwrite"],
        ["empty"],
        ["empty", "--prune"],
        ["p/b.ppm"],
    ):
        assert annotate(*selection, "-o", table) == Exit.OK
        assert sorted(read(table)) == sorted(texts), selection


@pytest.mark.parametrize("table", TABLES)
def test_rows_follow_moved_images_and_stay_without_their_image_until_they_are_pruned(
    responder: Responder,
    tmp_path: Path,
    texts: dict[str, str],
    table: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert annotate("p", "-o", table) == Exit.OK
    (tmp_path / "p" / "a.ppm").rename(tmp_path / "p" / "moved.ppm")
    (tmp_path / "p" / "b.ppm").unlink()
    (tmp_path / "p" / "c.ppm").write_bytes(b"damaged")
    assert annotate("p", "-o", table) in (Exit.OK, Exit.SOME_FAILED)
    assert sorted(read_rows(table)) == ["b.ppm", "c.ppm", "moved.ppm"]
    assert "1 row of images outside this run" in capsys.readouterr().err
    assert annotate("p", "-o", table, "--prune", "--dry-run") == Exit.OK
    assert "1 row of images outside this run would be removed" in capsys.readouterr().err
    assert annotate("p", "-o", table, "--prune") in (Exit.OK, Exit.SOME_FAILED)
    assert sorted(read_rows(table)) == ["c.ppm", "moved.ppm"]
    assert "1 row removed (--prune)" in capsys.readouterr().err


def test_an_archive_stays_as_it_is_while_an_image_is_gone(
    responder: Responder,
    tmp_path: Path,
    texts: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert annotate("p", "-o", "t.tar") == Exit.OK
    before = Path("t.tar").read_bytes()
    (tmp_path / "p" / "b.ppm").unlink()
    assert annotate("p", "-o", "t.tar") == Exit.USAGE
    assert "b.ppm is gone: restore it, or remove its sample with --prune" in capsys.readouterr().err
    assert Path("t.tar").read_bytes() == before
    assert annotate("p", "-o", "t.tar", "--prune") == Exit.OK
    assert sorted(read_samples("t.tar")) == ["a.ppm", "c.ppm"]


@pytest.mark.parametrize("table", TABLES)
def test_a_run_that_died_after_it_had_replaced_the_file_changes_nothing(
    responder: Responder, texts: dict[str, str], table: str
) -> None:
    assert annotate("p", "-o", table, "--captions", "2", "--seed", "1") == Exit.OK
    before = Path(table).read_bytes()
    folder, name = Path(table).parent, Path(table).name
    journal = Journal(str(folder / f".{name}.blipline.db"))
    journal.write_state("written", "of an earlier file")
    journal.close()
    assert annotate("p", "-o", table, "--captions", "2", "--seed", "1") == Exit.OK
    assert Path(table).read_bytes() == before


def test_an_edited_column_of_the_source_stays_and_new_ones_follow_the_source(
    responder: Responder, texts: dict[str, str]
) -> None:
    def write_source(score: int) -> None:
        lines = [{"path": f"p/{name}", "score": score, "site": "x"} for name in texts]
        Path("in.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    write_source(1)
    assert annotate("in.jsonl", "-o", "t.jsonl") == Exit.OK
    edit("t.jsonl", lambda rows: rows["a.ppm"].update(score=5))
    write_source(2)
    assert annotate("in.jsonl", "-o", "t.jsonl") == Exit.OK
    scores = {name: row["score"] for name, row in read_rows("t.jsonl").items()}
    assert scores == {"a.ppm": 5, "b.ppm": 2, "c.ppm": 2}


def test_a_damaged_line_of_the_table_is_named_and_nothing_is_written(
    responder: Responder, texts: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert annotate("p", "-o", "t.jsonl") == Exit.OK
    damaged = Path("t.jsonl").read_text().replace('"file_name"', '"file_name', 1)
    Path("t.jsonl").write_text(damaged)
    assert annotate("p", "-o", "t.jsonl") == Exit.USAGE
    assert "t.jsonl line 1" in capsys.readouterr().err
    assert Path("t.jsonl").read_text() == damaged


def test_pruning_needs_a_table_and_all_images(
    texts: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert annotate("p", "--prune") == Exit.USAGE
    assert "rows of tables and archives" in capsys.readouterr().err
    assert annotate("p", "-o", "t.jsonl", "--prune", "--sample", "1") == Exit.USAGE
    assert "omit --sample and --where" in capsys.readouterr().err


@pytest.mark.parametrize("table", TABLES)
def test_edits_survive_a_touched_moved_and_pruned_image(
    responder: Responder, tmp_path: Path, texts: dict[str, str], table: str
) -> None:
    text = CAPTION.get(table, "text")
    assert annotate("p", "-o", table) == Exit.OK

    def change(rows: Rows) -> None:
        rows["a.ppm"] |= {text: "by hand", "tags": "t"}
        rows["b.ppm"] |= {"tags": "u"}

    edit(table, change)
    assert annotate("p", "-o", table) == Exit.OK
    os.utime(tmp_path / "p" / "a.ppm", (1, 1))
    assert annotate("p", "-o", table) == Exit.OK
    assert read_rows(table)["a.ppm"][text] == "by hand"
    (tmp_path / "p" / "a.ppm").rename(tmp_path / "p" / "moved.ppm")
    (tmp_path / "p" / "b.ppm").unlink()
    for _ in range(2):
        assert annotate("p", "-o", table) == Exit.OK
        rows = read_rows(table)
        assert sorted(rows) == ["b.ppm", "c.ppm", "moved.ppm"]
        assert (rows["moved.ppm"][text], rows["moved.ppm"]["tags"]) == ("by hand", "t")
    assert annotate("p", "-o", table, "--prune") == Exit.OK
    assert sorted(read_rows(table)) == ["c.ppm", "moved.ppm"]


@pytest.mark.parametrize("table", ["t.jsonl", "t.json"])
def test_a_table_that_was_damaged_for_a_run_loses_nothing(
    responder: Responder, texts: dict[str, str], table: str
) -> None:
    assert annotate("p", "-o", table) == Exit.OK
    edit(table, lambda rows: rows.update({"z.png": {CAPTION.get(table, "text"): "theirs"}}))
    assert annotate("p", "-o", table) == Exit.OK
    sound, times = Path(table).read_bytes(), Path(table).stat()
    Path(table).write_bytes(b"{" + sound)
    assert annotate("p", "-o", table) == Exit.USAGE
    Path(table).write_bytes(sound)
    os.utime(table, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert annotate("p", "-o", table) == Exit.OK
    assert "z.png" in read_rows(table)


def test_a_copy_that_is_deleted_leaves_its_row(
    responder: Responder, tmp_path: Path, texts: dict[str, str]
) -> None:
    (tmp_path / "p" / "copy.ppm").write_bytes((tmp_path / "p" / "a.ppm").read_bytes())
    assert annotate("p", "-o", "t.jsonl") == Exit.OK
    edit("t.jsonl", lambda rows: rows["copy.ppm"].update(text="by hand"))
    assert annotate("p", "-o", "t.jsonl") == Exit.OK
    (tmp_path / "p" / "copy.ppm").unlink()
    assert annotate("p", "-o", "t.jsonl") == Exit.OK
    assert read_rows("t.jsonl")["copy.ppm"]["text"] == "by hand"


def test_values_of_other_programs_keep_their_type_under_any_name(
    responder: Responder, texts: dict[str, str]
) -> None:
    assert annotate("p", "-o", "t.jsonl") == Exit.OK
    values: dict[str, dict[str, Any]] = {
        "y1.png": {"text": 5},
        "y2.png": {"text": ["a", "b"], "answers": ["yes", "no"]},
        "y3.png": {"text": None, "texts": 7},
        "y4.png": {"text": "", "image": "elsewhere/y4.png"},
    }

    def change(rows: Rows) -> None:
        rows.update({name: dict(row) for name, row in values.items()})
        rows["a.ppm"] |= {"answers": ["yes", "no", "maybe"]}
        rows["b.ppm"] |= {"answers": "plain"}

    edit("t.jsonl", change)
    for _ in range(2):
        assert annotate("p", "-o", "t.jsonl") == Exit.OK
        rows = read_rows("t.jsonl")
        assert {name: {**rows[name], **row} for name, row in values.items()} == {
            name: rows[name] for name in values
        }
        assert rows["a.ppm"]["text"] == texts["a.ppm"]
        assert "texts" not in rows["a.ppm"]
        assert rows["b.ppm"]["answers"] == "plain"


def test_either_place_of_a_first_text_can_be_edited(
    responder: Responder, texts: dict[str, str]
) -> None:
    several = ("p", "-o", "t.jsonl", "--captions", "2", "--seed", "1")
    assert annotate(*several) == Exit.OK

    def change(rows: Rows) -> None:
        rows["a.ppm"]["texts"][0] = "in the list"
        rows["b.ppm"]["text"] = "beside it"

    edit("t.jsonl", change)
    assert annotate(*several) == Exit.OK
    rows = read_rows("t.jsonl")
    assert (rows["a.ppm"]["text"], rows["a.ppm"]["texts"][0]) == ("in the list", "in the list")
    assert (rows["b.ppm"]["text"], rows["b.ppm"]["texts"][0]) == ("beside it", "beside it")


def test_files_of_others_are_not_overwritten(
    responder: Responder, texts: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("t.jsonl.bak").write_text("mine")
    Path("t.jsonl").write_text('{"file_name": "z.png", "text": "theirs"}\n')
    assert annotate("p", "-o", "t.jsonl") == Exit.OK
    assert Path("t.jsonl.bak").read_text() == "mine"
    assert "theirs" in Path("t.jsonl.bak2").read_text()
    Path("t-000000.tar").write_bytes(b"of another program")
    assert annotate("p", "-o", "t-%06d.tar") == Exit.USAGE
    assert "move the shards away" in capsys.readouterr().err
    assert Path("t-000000.tar").read_bytes() == b"of another program"


def test_a_renamed_folder_costs_a_constant_number_of_queries_an_image(
    responder: Responder, tmp_path: Path
) -> None:
    for number in range(300):
        write_image(tmp_path / "p" / f"{number}.ppm", number)
    assert annotate("p", "-o", "t.jsonl") == Exit.OK
    (tmp_path / "p").rename(tmp_path / "q")
    assert annotate("q", "-o", "t.jsonl") == Exit.OK
    assert len(read_rows("t.jsonl")) == 300
    assert responder.answers == 300


@pytest.mark.parametrize(
    ("table", "content"),
    [
        ("t.json", '{"\\ud800.png": {"caption": "x"}}'),
        ("t.jsonl", '{"file_name": "http://x/\\ud800.png", "text": "x"}\n'),
        ("t.json", '{"a": ' * 100_000),
        ("t.parquet", "no parquet"),
        ("t.parquet", ""),
    ],
)
def test_a_table_that_cannot_be_read_is_named(
    responder: Responder,
    texts: dict[str, str],
    table: str,
    content: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert annotate("p", "-o", table) == Exit.OK
    Path(table).write_text(content)
    assert annotate("p", "-o", table) == Exit.USAGE
    error = capsys.readouterr().err
    assert table in error or "the table" in error
    assert Path(table).read_text() == content


def read_samples(table: str) -> Rows:
    """Return the captions of an archive by the file name of their image."""
    import tarfile

    with tarfile.open(table) as archive:
        rows = [
            json.loads(member.read())
            for name in archive.getnames()
            if name.endswith(".json") and (member := archive.extractfile(name)) is not None
        ]
    return {Path(row["file_name"]).name: row for row in rows}
