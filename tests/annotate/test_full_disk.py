"""A disk that is full: what was there stays whole, and the run continues once there is room."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import tarfile
from pathlib import Path
from random import Random

import pyarrow.parquet
import pytest
from PIL import Image

from producer.cli.exit_codes import Exit
from producer.image_sources.descriptions.containers import description_of
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, json_lines, text_of, write_image

IMAGES = 40
OUTPUTS = [
    *("small", "small/out.jsonl", "small/metadata.jsonl", "small/out.csv", "small/out.tsv"),
    *("small/out.parquet", "small/meta_cap.json", "small/out.tar", "small/out-%02d.tar"),
]


def write_png(number: int) -> str:
    """Write a small image; return the beginning of its text."""
    path = Path("p") / f"{number:02d}.png"
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    return text_of(path)


def texts_of(path: Path) -> list[str]:
    """Return all captions of a file of an output."""
    match path.suffix:
        case ".txt":
            return [path.read_text()]
        case ".png":
            return [description_of(path.read_bytes()) or ""]
        case ".jsonl":
            return [row["text"] for row in json_lines(path)]
        case ".csv" | ".tsv":
            with path.open(newline="") as file:
                rows = csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t")
                return [row["text"] for row in rows]
        case ".parquet":
            column: list[str] = pyarrow.parquet.read_table(path)["text"].to_pylist()
            return column
        case ".json":
            return [fields["caption"] for fields in json.loads(path.read_bytes()).values()]
    with tarfile.open(path) as archive:
        files = [archive.extractfile(name) for name in archive.getnames() if name.endswith(".txt")]
        return [file.read().decode() for file in files if file is not None]


def outputs(folder: Path) -> dict[Path, bytes]:
    """Return the files of a folder, hidden ones included."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "arguments", [*(["-o", output] for output in OUTPUTS), ["--embed", "-o", "small"]], ids=" ".join
)
def test_a_full_disk_ends_the_run_which_continues_once_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
    responder: Responder,
    small_disk: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    monkeypatch.setattr("producer.annotate.outputs.webdataset.SHARD_SAMPLES", 4)
    arguments = ["p", *arguments, "--journal", "journal.db"]
    # Given: the complete output of an earlier run.
    expected = {write_png(number) for number in (0, 1, 30, 31, 32, 33)}
    assert annotate(*arguments) == Exit.OK
    before = outputs(small_disk)
    # When: further texts have no room. No form compresses them much.
    expected |= {write_png(number) for number in range(IMAGES)}
    filler = Random(5)
    responder.text_of = lambda item, options: (
        f"picture {item['image'][5:13]} {filler.randbytes(4000).hex()}"
    )
    assert annotate(*arguments) == Exit.USAGE
    # Then: the error names the file and the remedy, and each file is an old or a new one.
    error = capsys.readouterr().err
    assert f"{small_disk.name}/" in error
    assert "No space left on device. Free some space; then the same command continues" in error
    after = outputs(small_disk)
    assert after.keys() >= before.keys()
    if "%" not in arguments[2]:
        assert before.items() <= after.items()
    for path in after:
        assert {text[:16] for text in texts_of(path)} <= expected
        assert all(len(text.strip()) in (16, 8017) for text in texts_of(path))
    # And: it continues, without a question for what is there.
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert annotate(*arguments) == Exit.OK
    assert "another program" not in capsys.readouterr().err
    texts = [text for path in outputs(small_disk) for text in texts_of(path)]
    assert sorted(text[:16] for text in texts) == sorted(expected)
    assert responder.answers == IMAGES


def test_a_full_disk_of_the_journal_is_named(
    responder: Responder, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(IMAGES):
        write_image(Path("p") / f"{number}.png", number)
    responder.text_of = lambda item, options: "x" * 8000
    assert annotate("p", "-o", "out", "--journal", "small/journal.db") == Exit.USAGE
    assert "small/journal.db: database or disk is full. Free some space" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["small/out.jsonl", "small/out.tar"])
def test_a_file_of_others_whose_copy_has_no_room_stays(
    responder: Responder, small_disk: Path, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    write_png(1)
    row = {"file_name": "other.png", "text": "x" * 120_000}
    if output.endswith(".tar"):
        with tarfile.open(output, "w") as archive:
            archive.addfile(tarfile.TarInfo("a.png"))
            text = tarfile.TarInfo("a.txt")
            text.size = len(row["text"])
            archive.addfile(text, io.BytesIO(row["text"].encode()))
    else:
        Path(output).write_text(f"{json.dumps(row)}\n")
    before = outputs(small_disk)
    assert annotate("p", "-o", output, "--journal", "journal.db") == Exit.USAGE
    assert f"{output}.bak: cannot be written: No space left on device. Free some space" in (
        capsys.readouterr().err
    )
    assert outputs(small_disk) == before
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert annotate("p", "-o", output, "--journal", "journal.db") == Exit.OK
    assert (small_disk / f"{Path(output).name}.bak").read_bytes() in before.values()
