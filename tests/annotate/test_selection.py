"""Selection: conditions, samples, near duplicates, and the dry run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from producer.annotate.filters import PictureFilter
from producer.annotate.storage.near_duplicates import difference_hash, distance
from producer.cli.exit_codes import Exit
from producer.errors import InvalidInput
from producer.image_sources.image_bytes import ImageBytes
from producer.image_sources.picture import file_picture
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, captions, json_lines, write_image

TEXTS = ("name", "stem", "suffix", "folder", "format")
NUMBERS = ("width", "height", "pixels", "side", "aspect", "bytes")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_image(tmp_path / "p" / "small.png", 1, 8, 8)
    write_image(tmp_path / "p" / "wide.jpg", 2, 64, 16)
    write_image(tmp_path / "p" / "cats" / "tall.PNG", 3, 16, 64)
    return tmp_path / "p"


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        (["width>=16"], {"wide", "tall"}),
        (["width>=16", "aspect<1"], {"tall"}),
        (["pixels<0.1K"], {"small"}),
        (["side = 8"], {"small"}),
        (["name=*.jpg"], {"wide"}),
        (["suffix=png"], {"small", "tall"}),
        (["suffix=.PNG"], {"small", "tall"}),
        (["format=ppm"], {"small", "wide", "tall"}),
        (["format!=ppm"], set()),
        (["folder=cats"], {"tall"}),
        (["stem~^w"], {"wide"}),
        (["stem!~^w"], {"small", "tall"}),
        (["bytes>1k"], {"wide", "tall"}),
        (["format~P"], {"small", "wide", "tall"}),
        (["suffix~^P"], {"small", "tall"}),
    ],
)
def test_conditions(
    responder: Responder, folder: Path, conditions: list[str], names: set[str]
) -> None:
    arguments = [argument for condition in conditions for argument in ("--where", condition)]
    assert annotate("p", *arguments) == Exit.OK
    assert {Path(name).stem for name in captions(folder)} == names


def test_a_dry_run_tells_why_images_cannot_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(7):
        (folder / f"{number}.png").symlink_to("nowhere")
    assert annotate("p", "--dry-run", "--where", "width>99") == Exit.OK
    lines = capsys.readouterr().err.splitlines()
    assert any("7 unreadable" in line for line in lines)
    reasons = [line for line in lines if line.startswith("cannot be read: ")]
    assert len(reasons) == 5
    assert all(".png" in line for line in reasons)
    assert annotate("p", "--dry-run", "--errors", "e.jsonl") == Exit.USAGE
    assert "omit --errors" in capsys.readouterr().err


def test_a_field_that_images_of_folders_cannot_have_is_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert annotate("p", "--where", "sidee>5") == Exit.USAGE
    message = capsys.readouterr().err
    assert "no field 'sidee'; fields: name, " in message


@pytest.mark.parametrize("name", ["jpeg", "JPG", ".jpg", "*eg"])
def test_a_format_has_the_name_of_its_suffix_too(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg")
    picture = file_picture(str(tmp_path / "x.jpg"), "x.jpg")
    assert PictureFilter([f"format={name}"], ImageBytes())(picture)
    assert not PictureFilter([f"format!={name}"], ImageBytes())(picture)


def test_conditions_on_columns_of_a_table(responder: Responder, folder: Path) -> None:
    Path("in.csv").write_text("path,score\np/small.png,0.2\np/wide.jpg,0.9\n")
    assert annotate("in.csv", "-o", "out.jsonl", "--where", "score>=0.5") == Exit.OK
    assert [row["file_name"] for row in json_lines(Path("out.jsonl"))] == ["p/wide.jpg"]


def test_a_condition_that_no_value_can_meet_is_an_error() -> None:
    messages = {f"{name}{sign}5": f"{name} is a text" for name in TEXTS for sign in ("<", ">=")}
    messages |= {
        f"{name}{sign}5": f"{name} is a number" for name in NUMBERS for sign in ("~", "!~")
    }
    values = ("width>=nan", "width<inf", "bytes=-1e400", "side>x", "score<nan", "score<1e308G")
    messages |= dict.fromkeys(values, "not a finite number")
    for condition, message in messages.items():
        with pytest.raises(InvalidInput, match=message):
            PictureFilter([condition], ImageBytes())


@pytest.mark.parametrize("arguments", [[], ["--dry-run"], ["--sample", "2"]])
def test_a_column_that_no_image_has_is_named_at_the_end(
    responder: Responder, folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    Path("in.csv").write_text("path,score\np/small.png,0.2\np/wide.jpg,\n")
    columns = ["--where", "score!=5", "--where", "nope=1", "--where", "text=a"]
    assert annotate("in.csv", "-o", "out.jsonl", *columns, *arguments) == Exit.OK
    warnings = capsys.readouterr().err
    assert "no image has a column 'nope'" in warnings
    assert "no image has a column 'text'" in warnings
    assert "no image has a column 'score'" not in warnings


def test_an_image_whose_size_cannot_be_read_fails(responder: Responder, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    assert annotate("p", "--where", "width>1") == Exit.SOME_FAILED
    assert len(captions(folder)) == 3


def test_a_sample_is_the_same_in_each_run_and_follows_the_seed(
    responder: Responder, tmp_path: Path
) -> None:
    for number in range(40):
        write_image(tmp_path / "p" / f"{number}.png", number)
    for _ in range(2):
        assert annotate("p", "--sample", "10") == Exit.OK
        assert len(captions(tmp_path / "p")) == 10
    assert annotate("p", "--sample", "10", "--sample-seed", "1") == Exit.OK
    assert 10 < len(captions(tmp_path / "p")) <= 20


def test_near_duplicates_are_captioned_once(
    responder: Responder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p").mkdir()
    scene = Path(__file__).parents[2] / "demo" / "images" / "scene-01.png"
    source = Image.open(scene).convert("RGB").resize((128, 128))
    source.save(tmp_path / "p" / "a.png")
    source.save(tmp_path / "p" / "b.jpg", quality=80)
    source.resize((96, 96)).save(tmp_path / "p" / "c.png")
    source.rotate(90).save(tmp_path / "p" / "d.png")
    assert annotate("p", "--near-duplicates") == Exit.OK
    assert "2 with the caption of a near duplicate" in capsys.readouterr().err
    texts = captions(tmp_path / "p")
    assert texts["a.txt"] == texts["b.txt"] == texts["c.txt"] != texts["d.txt"]
    assert responder.answers == 2


def test_the_hash_ignores_size_and_sees_another_picture(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "demo" / "images" / "scene-01.png"
    bands = difference_hash(path.read_bytes())
    assert bands is not None
    assert distance(bands, bands) == 0
    assert difference_hash(b"no image") is None


def test_a_dry_run_writes_nothing_and_estimates(
    responder: Responder, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "small.txt").write_text("mine")
    (folder / "empty.png").touch()
    before = sorted(folder.rglob("*"))
    assert annotate("p", "--dry-run", "--json") == Exit.OK
    captured = capsys.readouterr()
    plan = json.loads(captured.out)
    assert sorted(folder.rglob("*")) == before
    assert (plan["images"], plan["would_annotate"], plan["skipped"], plan["failed"]) == (4, 2, 1, 1)
    assert plan["requests"] == 2
    assert plan["seconds"] > 0
    assert "2 would get captions" in captured.err
    annotate("p")
    capsys.readouterr()
    assert annotate("p", "--dry-run", "--json") == Exit.OK
    plan = json.loads(capsys.readouterr().out)
    assert (plan["done_before"], plan["requests"], plan["seconds"]) == (2, 0, 0.0)
