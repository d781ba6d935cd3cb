"""`blipline index` and `blipline search`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.cli.shell import json_lines
from tests.search.conftest import ColorWorker, paint


@pytest.fixture(autouse=True)
def environment(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, tmp_path: Path, photos: Path
) -> None:
    """Make commands use this Redis and start beside the pictures."""
    monkeypatch.setenv("BLIPLINE_REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("worker")
def test_a_folder_is_indexed_then_searched(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "photos"]) == Exit.OK
    assert capsys.readouterr() == (
        "4 entries: 4 new or changed, 4 embedded, 0 unchanged; 0 removed, 0 failed\n",
        "",
    )
    assert run(["search", "something blue", "-n", "2"]) == Exit.OK
    out, err = capsys.readouterr()
    first, second = (line.split("\t") for line in out.splitlines())
    assert (first[1], second[1], err) == ("photos/blue.png", "photos/sea/deep blue.png", "")
    assert float(first[0]) == pytest.approx(1, abs=1e-3)


@pytest.mark.usefixtures("worker")
def test_json_has_all_fields(capsys: pytest.CaptureFixture[str], photos: Path) -> None:
    assert run(["index", "photos", "--json"]) == Exit.OK
    (counts,) = json_lines(capsys.readouterr().out)
    assert counts["embedded"] == 4
    assert run(["search", "--image", "photos/red.png", "--json", "--path", "r*"]) == Exit.OK
    (hit,) = json_lines(capsys.readouterr().out)
    image = str(photos / "red.png")
    assert hit == {"kind": "image", "image": image, "name": "red.png", "cosine": 1.0}
    assert run(["search", "red", "--json", "--rerank", "4", "-n", "1"]) == Exit.OK
    (hit,) = json_lines(capsys.readouterr().out)
    assert 0 < hit["probability"] < 1


@pytest.mark.usefixtures("worker")
def test_a_sheet_shows_the_hits(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paint(tmp_path / "photos" / "<b>.png", (240, 5, 5))
    run(["index", "photos"])
    assert run(["search", "<script>red", "--rerank", "5", "--html", "hits.html"]) == Exit.OK
    page = (tmp_path / "hits.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 5
    assert "\\u003cb>.png" in page
    assert "<title>&lt;script&gt;red</title>" in page
    assert run(["search", "red", "--html", "no/such/folder.html"]) == Exit.USAGE
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.usefixtures("worker")
def test_failures_are_named_and_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number in range(25):
        (tmp_path / "photos" / f"broken {number}.png").write_bytes(b"%d" % number)
    assert run(["index", "photos"]) == Exit.SOME_FAILED
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[0].startswith("blipline: broken ")
    assert lines[-1] == "blipline: and 5 more failed"


@pytest.mark.usefixtures("worker")
def test_a_name_with_a_line_break_stays_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    paint(tmp_path / "photos" / "a\nb.png", (240, 5, 5))
    run(["index", "photos"])
    capsys.readouterr()
    run(["search", "red", "--path", "a*"])
    assert len(capsys.readouterr().out.splitlines()) == 1
    run(["search", "red", "--path", "a*", "--json"])
    assert json.loads(capsys.readouterr().out)["name"] == "a\nb.png"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search"], "give one of them"),
        (["search", "red", "--image", "x.png"], "give one of them"),
        (["search", "red", "--index", "nowhere"], "there is no index"),
        (["search", "red", "--find", "text", "--rerank", "3"], "compares a text with an image"),
        (["index", "missing"], "no such file or folder"),
        (["index"], "no sources yet"),
    ],
)
@pytest.mark.usefixtures("worker")
def test_wrong_usage_names_the_remedy(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == Exit.USAGE
    assert message in capsys.readouterr().err


def test_an_image_that_is_gone_is_named(
    worker: ColorWorker, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(["index", "photos"])
    os.unlink(tmp_path / "photos" / "red.png")
    capsys.readouterr()
    assert run(["search", "red", "--rerank", "4"]) == Exit.OK
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].endswith("\tphotos/red.png")
    assert "photos/red.png: not re-ranked:" in err
