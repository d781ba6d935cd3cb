"""A run over a folder: each image one caption, in any interruption and after any change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, captions, json_lines, text_of, write_image


def test_each_image_of_a_folder_gets_a_caption_beside_it(
    responder: Responder, tmp_path: Path
) -> None:
    first = write_image(tmp_path / "p" / "a.ppm", 1)
    second = write_image(tmp_path / "p" / "deep" / "er" / "b.JPG", 2)
    (tmp_path / "p" / "notes.doc").write_text("no image")
    assert annotate("p") == Exit.OK
    assert captions(tmp_path / "p") == {"a.txt": f"{first}\n", "deep/er/b.txt": f"{second}\n"}


def test_a_second_run_asks_nothing_and_changes_nothing(
    responder: Responder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        write_image(tmp_path / "p" / f"{number}.ppm", number)
    assert annotate("p") == Exit.OK
    before = {path: os.stat(path).st_mtime_ns for path in (tmp_path / "p").glob("*.txt")}
    assert annotate("p", "--json") == Exit.OK
    assert '"annotated": 0, "done_before": 5' in capsys.readouterr().out
    assert responder.answers == 5
    assert {path: os.stat(path).st_mtime_ns for path in (tmp_path / "p").glob("*.txt")} == before


def test_only_what_is_new_or_changed_is_captioned(responder: Responder, tmp_path: Path) -> None:
    write_image(tmp_path / "p" / "a.ppm", 1)
    write_image(tmp_path / "p" / "b.ppm", 2)
    annotate("p")
    write_image(tmp_path / "p" / "b.ppm", 3)
    write_image(tmp_path / "p" / "c.ppm", 4)
    assert annotate("p") == Exit.OK
    assert responder.answers == 4
    assert captions(tmp_path / "p")["b.txt"] == text_of(tmp_path / "p" / "b.ppm") + "\n"


def test_moved_and_duplicate_files_need_no_second_answer(
    responder: Responder, tmp_path: Path
) -> None:
    write_image(tmp_path / "p" / "a.ppm", 1)
    annotate("p")
    os.makedirs(tmp_path / "p" / "moved")
    os.rename(tmp_path / "p" / "a.ppm", tmp_path / "p" / "moved" / "z.ppm")
    write_image(tmp_path / "p" / "copy.ppm", 1)
    assert annotate("p") == Exit.OK
    assert responder.answers == 1
    assert captions(tmp_path / "p")["moved/z.txt"] == captions(tmp_path / "p")["copy.txt"]


def test_equal_images_in_flight_are_captioned_once(responder: Responder, tmp_path: Path) -> None:
    for number in range(40):
        write_image(tmp_path / "p" / f"{number}.ppm", number % 2)
    assert annotate("p") == Exit.OK
    assert responder.answers == 2
    assert len(captions(tmp_path / "p")) == 40


def test_a_deleted_caption_is_written_again_from_the_journal(
    responder: Responder, tmp_path: Path
) -> None:
    text = write_image(tmp_path / "p" / "a.ppm", 1)
    annotate("p")
    (tmp_path / "p" / "a.txt").unlink()
    assert annotate("p") == Exit.OK
    assert (responder.answers, captions(tmp_path / "p")) == (1, {"a.txt": f"{text}\n"})


def test_failed_images_are_reported_and_tried_again_on_demand(
    responder: Responder, tmp_path: Path
) -> None:
    write_image(tmp_path / "p" / "a.ppm", 1)
    write_image(tmp_path / "p" / "b.ppm", 2)
    (tmp_path / "p" / "empty.png").touch()
    responder.text_of = lambda item, options: None
    assert annotate("p", "--errors", "errors.jsonl") == Exit.SOME_FAILED
    errors = {line["file_name"]: line["error"]["code"] for line in json_lines(Path("errors.jsonl"))}
    assert errors == dict.fromkeys(["a.ppm", "b.ppm", "empty.png"], "image_invalid")
    responder.text_of = lambda item, options: "a text"
    assert annotate("p") == Exit.SOME_FAILED
    assert responder.answers == 2
    assert annotate("p", "--retry-failed", "--errors", "errors.jsonl") == Exit.SOME_FAILED
    assert [line["file_name"] for line in json_lines(Path("errors.jsonl"))] == ["empty.png"]
    assert captions(tmp_path / "p") == {"a.txt": "a text\n", "b.txt": "a text\n"}


def test_images_that_differ_in_their_suffix_have_files_of_their_own(
    responder: Responder, tmp_path: Path
) -> None:
    jpg = write_image(tmp_path / "p" / "cat.jpg", 1)
    png = write_image(tmp_path / "p" / "cat.png", 2)
    for _ in range(2):
        assert annotate("p") == Exit.OK
        assert captions(tmp_path / "p") == {"cat.txt": f"{jpg}\n", "cat.png.txt": f"{png}\n"}


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_folder_without_images_is_no_error_but_named(
    responder: Responder, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "shard.tar").touch()
    assert annotate("p", *options) == Exit.OK
    assert "no images; name archives and tables by a pattern" in capsys.readouterr().err
    write_image(tmp_path / "p" / "a.png", 1)
    for _ in range(2):
        assert annotate("p", *options) == Exit.OK
    assert "no images" not in capsys.readouterr().err


def test_captions_can_go_to_a_folder_of_the_same_structure(
    responder: Responder, tmp_path: Path
) -> None:
    text = write_image(tmp_path / "p" / "deep" / "a.ppm", 1)
    assert annotate("p", "-o", "out", "--format", "caption") == Exit.OK
    assert captions(tmp_path / "out", ".caption") == {"deep/a.caption": f"{text}\n"}
    assert [path.name for path in (tmp_path / "p").rglob("*.*")] == ["a.ppm"]
