"""Hostile collections: unusual names, unreadable files, loops, read-only folders, and changes."""

from __future__ import annotations

import os
import random
import subprocess
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from producer.cli.exit_codes import Exit
from producer.evaluation.caption_rows import caption_rows
from producer.image_sources.descriptions.containers import description_of
from producer.sheets.images import ImageFolders
from producer.sheets.reader import read_entries
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, captions, json_lines, text_of, write_image
from tests.cli.shell import PROGRAM

NAMES = [
    "a b.png",
    " leading and trailing .png",
    "new\nline.png",
    "tab\t.png",
    unicodedata.normalize("NFC", "Zoë.png"),
    unicodedata.normalize("NFD", "Zoë.png"),
    "Case.png",
    "case.png",
    "-rf.png",
    "--help.png",
    "file:x.png",
    "blob:" + "0" * 64 + ".png",
    "https:.png",
    "data:image.png",
    "*.png",
    "[ab]?.png",
    "'\"`$(touch x);&|.png",
    "\\back\\slash.png",
    "%41%0a.png",
    "{name}.png",
    "\U0001f431\u202e.png",
    "a.b.c.png",
    "x" * 251 + ".png",
    os.fsdecode(b"latin-\xe9.png"),
]


@pytest.fixture
def unusual(tmp_path: Path) -> dict[str, str]:
    """Images with unusual names, and their texts."""
    return {name: write_image(tmp_path / "p" / name, number) for number, name in enumerate(NAMES)}


def test_unusual_names_get_their_own_captions(
    responder: Responder, unusual: dict[str, str], tmp_path: Path
) -> None:
    for _ in range(2):
        assert annotate("p") == Exit.OK
        assert captions(tmp_path / "p") == {
            name.removesuffix(".png") + ".txt": f"{text}\n" for name, text in unusual.items()
        }
    assert responder.answers == len(NAMES)


def shown(output: str) -> dict[str, str]:
    """Return the texts that `sheet` and `compare` show, by the name of the image."""
    folder = f"{Path('p').absolute()}/"
    entries = read_entries(output)
    assert {entry.error for entry in entries} == {None}
    assert len(entries) == len(NAMES)
    return {entry.name.removeprefix(folder): entry.text for entry in entries}


TABLES = [
    "x.jsonl",
    "x.csv",
    "x.tsv",
    "x.parquet",
    "metadata.jsonl",
    "metadata.csv",
    "meta_cap.json",
]


def escaped(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize("target", [*TABLES, "x.tar"])
def test_unusual_names_survive_each_form_and_back(
    responder: Responder, unusual: dict[str, str], target: str
) -> None:
    assert annotate("p", "-o", f"p/{target}") == Exit.OK
    # Parquet's texts are UTF-8: they have other bytes of a name as their escape.
    named = {escaped(name) if target == "x.parquet" else name: unusual[name] for name in unusual}
    assert shown(f"p/{target}") == named
    if target != "x.tar":
        files = ImageFolders(["p"])
        assert {files.find(entry.image) for entry in read_entries(f"p/{target}")} == {
            str(Path("p", name).absolute()) for name in NAMES
        }
    # Each name leads to its own image: a table, read as a collection, gets the same captions.
    again = ("--existing", "overwrite")
    assert annotate(f"p/{target}", "-o", "again.jsonl", *again) == Exit.OK
    assert annotate("p", "-o", "direct.jsonl") == Exit.OK
    texts = sorted(row["text"] for row in json_lines(Path("again.jsonl")))
    assert texts == sorted(unusual.values())
    assert responder.answers >= len(NAMES)


def unsuffixed(texts: dict[str, str]) -> dict[str, str]:
    """Return texts by the names of their images without the suffix."""
    return {name.removesuffix(".png"): text for name, text in texts.items()}


def test_unusual_names_keep_their_captions_in_caption_files(
    responder: Responder, unusual: dict[str, str]
) -> None:
    assert annotate("p") == Exit.OK
    assert shown("p") == unusual
    references = {name: [text] for name, text in unsuffixed(unusual).items()}
    assert dict(caption_rows("p")) == references


def test_unusual_names_keep_their_captions_in_the_images(
    responder: Responder, tmp_path: Path
) -> None:
    (tmp_path / "p").mkdir()
    for number, name in enumerate(NAMES):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "p" / name, "PNG")
    texts = {name: text_of(tmp_path / "p" / name) for name in NAMES}
    assert annotate("p", "--embed", "-o", "copies") == Exit.OK
    copies = {path.name: description_of(path.read_bytes()) for path in Path("copies").glob("*.png")}
    assert copies == shown("copies") == texts
    references = {name: [text] for name, text in unsuffixed(texts).items()}
    assert dict(caption_rows("copies")) == references
    assert annotate("copies", "--embed", "-o", "again", "--existing", "skip") == Exit.OK
    assert responder.answers == len(NAMES)


def test_unusual_names_come_through_standard_input(
    responder: Responder, unusual: dict[str, str], tmp_path: Path
) -> None:
    listed = subprocess.run(["find", "p", "-name", "*.png", "-print0"], stdout=subprocess.PIPE)
    Path("list").write_bytes(listed.stdout)
    command = [*PROGRAM, "annotate", "-0", "-"]
    with open("list", "rb") as stdin:
        subprocess.run(command, stdin=stdin, check=True, stderr=subprocess.DEVNULL)
    assert len(captions(tmp_path / "p")) == len(NAMES)


def test_a_name_that_leaves_no_room_for_a_suffix_fails_alone(
    responder: Responder, unusual: dict[str, str], tmp_path: Path
) -> None:
    assert annotate("p", "--format", "caption", "--errors", "errors.jsonl") == Exit.SOME_FAILED
    (error,) = json_lines(Path("errors.jsonl"))
    assert error["error"]["code"] == "output_rejected"
    assert "File name too long" in error["error"]["message"]
    assert len(captions(tmp_path / "p", ".caption")) == len(NAMES) - 1


def test_links_loops_and_special_files(responder: Responder, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    text = write_image(folder / "a" / "x.png", 1)
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "b").symlink_to(folder / "a")
    (folder / "self.png").symlink_to("self.png")
    (folder / "dangling.png").symlink_to("nowhere")
    (folder / "alias.png").symlink_to("a/x.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "dir.png").mkdir()
    assert annotate("p", "--errors", "errors.jsonl") == Exit.SOME_FAILED
    assert captions(folder) == {"a/x.txt": f"{text}\n", "alias.txt": f"{text}\n"}
    errors = {line["file_name"]: line["error"]["code"] for line in json_lines(Path("errors.jsonl"))}
    assert errors == dict.fromkeys(["self.png", "dangling.png", "pipe.png"], "image_unreachable")


def test_a_name_in_a_table_cannot_leave_the_output_folder(
    responder: Responder, tmp_path: Path
) -> None:
    write_image(tmp_path / "x.png", 1)
    (tmp_path / "in").mkdir()
    Path("in/in.csv").write_text(f"path\n../x.png\n{tmp_path}/x.png\n")
    assert annotate("in/in.csv", "-o", "out/deep") == Exit.OK
    assert {str(path) for path in Path("out").rglob("*.txt")} == {"out/deep/up/x.txt"}


def test_a_collection_that_changes_while_it_is_read(responder: Responder, tmp_path: Path) -> None:
    for number in range(60):
        write_image(tmp_path / "p" / f"{number:02d}.png", number)
    changed: list[bool] = []

    def text(item: object, options: object) -> str:
        if not changed:
            changed.append(True)
            (tmp_path / "p" / "59.png").unlink()
            write_image(tmp_path / "p" / "58.png", 1000)
            write_image(tmp_path / "p" / "99.png", 2000)
        return "a text"

    responder.text_of = text
    assert annotate("p") in (Exit.OK, Exit.SOME_FAILED)
    assert annotate("p") == Exit.OK
    names = set(captions(tmp_path / "p")) - {"59.txt"}
    assert names == {f"{number:02d}.txt" for number in (*range(59), 99)}


def test_a_read_only_folder_is_named_with_the_remedy(
    responder: Responder, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write_image(small_disk / "a.png", 1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert annotate("small") == Exit.USAGE
    assert "choose another file with --journal" in capsys.readouterr().err
    assert annotate("small", "--journal", "journal.db") == Exit.USAGE
    assert "Read-only file system. Choose another folder or file with -o" in capsys.readouterr().err
    for name, remedy in {"-o": "choose another -o", "--journal": "change --journal"}.items():
        assert annotate("small", name, "small/new/x.jsonl") == Exit.USAGE
        assert f"small/new: Read-only file system: {remedy}" in capsys.readouterr().err
    assert annotate("small", "-o", "out") == Exit.OK
    assert captions(Path("out")) == {"a.txt": f"{text}\n"}


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_a_journal_whose_pages_are_damaged_is_named_with_the_remedy(
    responder: Responder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    for number in range(300):
        write_image(tmp_path / "p" / f"{number}.png", number)
    assert annotate("p", "--journal", "journal.db") == Exit.OK
    data = bytearray((tmp_path / "journal.db").read_bytes())
    # All pages but the first, which has the schema.
    data[4096:] = random.Random(5).randbytes(len(data) - 4096)
    (tmp_path / "journal.db").write_bytes(data)
    assert annotate("p", "--journal", "journal.db", *arguments) == Exit.USAGE
    error = capsys.readouterr().err
    assert "the journal journal.db cannot be read" in error
    assert "delete it" in error


@pytest.mark.parametrize("arguments", [("--embed", "-o", "out"), ("-o", "out/")])
def test_images_above_the_folder_keep_outputs_of_their_own(
    responder: Responder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for number, name in enumerate(("a.png", "../a.png", "../../a.png")):
        path = tmp_path / "work" / "deep" / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    Path("list.jsonl").write_text(
        "".join(f'{{"image": "deep/{name}"}}\n' for name in ("a.png", "../a.png", "../../a.png"))
    )
    assert annotate("list.jsonl", *arguments) == Exit.OK
    files = [path for path in Path("out").rglob("*") if path.suffix in (".png", ".txt")]
    assert len(files) == 3
