"""Files and folders without the permission to read them: each fails alone, by its name."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, captions, json_lines, write_image

#: Version 3 of the structures of capset(2) on Linux.
CAPABILITY_VERSION = 0x20080522
#: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, with which the super-user reads every file.
OVERRIDES = 1 << 1 | 1 << 2
#: Modes of a folder: nothing, only its names, only its files by their names.
FOLDER_MODES = {"closed": 0o000, "listed": 0o444, "unlisted": 0o111}
#: Names of images and folders, and the path that their error names. Of the image in a folder that
#: has only names it is unknown whether it has a caption file.
UNREADABLE = {
    "secret.png": "secret.png",
    "closed/": "closed",
    "listed/x.png": "listed/x.txt",
    "unlisted/": "unlisted",
}


@contextmanager
def permissions_apply() -> Iterator[None]:
    """Make permissions apply to this thread and to those that it starts, also for root."""
    libc = ctypes.CDLL(None, use_errno=True)
    thread = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    capabilities = (ctypes.c_uint32 * 6)()
    assert libc.capget(thread, capabilities) == 0
    effective = capabilities[0]
    capabilities[0] = effective & ~OVERRIDES
    assert libc.capset(thread, capabilities) == 0
    try:
        yield
    finally:
        capabilities[0] = effective
        assert libc.capset(thread, capabilities) == 0


def annotate_with_permissions(*arguments: str) -> int:
    """Run the command as a user that permissions apply to; return its exit code."""
    with permissions_apply():
        return annotate(*arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with an image that can be read, and one that cannot; and folders of such images."""
    folder = tmp_path / "p"
    for number, name in enumerate(["a.png", "secret.png", *(f"{n}/x.png" for n in FOLDER_MODES)]):
        write_image(folder / name, number)
    (folder / "secret.png").chmod(0)
    for name, mode in FOLDER_MODES.items():
        (folder / name).chmod(mode)
    yield folder
    make_readable(folder)


def make_readable(folder: Path) -> None:
    for name in FOLDER_MODES:
        (folder / name).chmod(0o755)
    (folder / "secret.png").chmod(0o644)


def test_images_and_folders_that_cannot_be_read_fail_alone(
    responder: Responder, folder: Path
) -> None:
    arguments = ["p", "--errors", "errors.jsonl"]
    assert annotate_with_permissions(*arguments) == Exit.SOME_FAILED
    lines = {line["file_name"]: line["error"] for line in json_lines(Path("errors.jsonl"))}
    codes = dict.fromkeys(UNREADABLE, "image_unreachable") | {"listed/x.png": "caption_unreadable"}
    assert {name: error["code"] for name, error in lines.items()} == codes
    errors = {name: error["message"] for name, error in lines.items()}
    for name, path in UNREADABLE.items():
        reason = rf"(.*/)?p/{path}: (cannot be read: )?Permission denied"
        assert re.fullmatch(reason, errors[name])
    assert captions(folder).keys() == {"a.txt"}
    # The images are asked about once they can be read, and nothing else.
    make_readable(folder)
    assert annotate(*arguments) == Exit.OK
    assert len(captions(folder)) == 2 + len(FOLDER_MODES)
    assert responder.answers == 2 + len(FOLDER_MODES)


@pytest.mark.parametrize(
    "name", ["x.txt", "x.jsonl", "x.csv", "x.tsv", "x.json", "x.parquet", "x.tar", "metadata.jsonl"]
)
def test_a_source_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    write_image(tmp_path / "a.png", 1)
    (tmp_path / name).write_text("image\na.png\n")
    (tmp_path / name).chmod(0)
    code = annotate_with_permissions(name, "-o", "out")
    # Images that an archive has before its damage are useful.
    assert code == (Exit.SOME_FAILED if name == "x.tar" else Exit.USAGE)
    error = capsys.readouterr().err
    assert name in error
    assert "Permission denied" in error


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet", "out.tar", "kohya.json"])
def test_an_output_that_cannot_be_read_is_named_and_stays(
    responder: Responder, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    write_image(tmp_path / "a.png", 1)
    output = tmp_path / name
    assert annotate("a.png", "-o", name, "--journal", "journal.db") == Exit.OK
    before = output.read_bytes()
    output.chmod(0)
    assert annotate_with_permissions("a.png", "-o", name, "--journal", "other.db") == Exit.USAGE
    error = capsys.readouterr().err
    assert name in error
    assert "Permission denied" in error
    output.chmod(0o644)
    assert output.read_bytes() == before


@pytest.mark.parametrize("existing", ["skip", "overwrite"])
@pytest.mark.parametrize("arguments", [[], ["-o", "out"], ["--embed", "-o", "out"]], ids=" ".join)
def test_captions_of_others_that_cannot_be_read_stay_and_fail_alone(
    responder: Responder, tmp_path: Path, arguments: list[str], existing: str
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / "p").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (ord(name[0]), 0, 0)).save(tmp_path / "p" / name)
    target = (
        tmp_path / ("out" if arguments else "p") / ("a.png" if "--embed" in arguments else "a.txt")
    )
    target.parent.mkdir(exist_ok=True)
    target.write_text("the captions of somebody")
    target.chmod(0)
    command = ["p", *arguments, "--existing", existing, "--errors", "errors.jsonl"]
    assert annotate_with_permissions(*command) == Exit.SOME_FAILED
    (error,) = json_lines(Path("errors.jsonl"))
    assert error["file_name"] == "a.png"
    assert error["error"]["message"].startswith(f"{target}")
    assert error["error"]["message"].endswith("Permission denied")
    assert target.read_text() == "the captions of somebody"
    assert target.with_name(f"b{target.suffix}").exists()
    assert responder.answers == 1


def test_pipes_and_folders_with_the_names_of_caption_files_stay_and_fail_alone(
    responder: Responder, tmp_path: Path
) -> None:
    for number, name in enumerate(("a", "pipe", "folder")):
        write_image(tmp_path / "p" / f"{name}.png", number)
    os.mkfifo(tmp_path / "p" / "pipe.txt")
    (tmp_path / "p" / "folder.txt").mkdir()
    assert annotate("p", "--existing", "overwrite", "--errors", "errors.jsonl") == Exit.SOME_FAILED
    for line in json_lines(Path("errors.jsonl")):
        assert line["error"]["message"].endswith(
            f"{line['file_name'][:-4]}.txt: not a regular file"
        )
    assert (tmp_path / "p" / "a.txt").is_file()
    assert (tmp_path / "p" / "pipe.txt").is_fifo()
    assert responder.answers == 1
