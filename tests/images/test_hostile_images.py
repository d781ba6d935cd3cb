"""Whatever a file holds: it ends with its code, soon, and takes no more memory than it may."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from demo.stack import ROOT
from tests.hostile.corpus import corpus
from tests.hostile.specimen import encoded
from worker.images.memory_budget import BUDGET_BYTES

#: Seconds for all of it; far more than it takes: a file that never ends is what is looked for.
TOO_LONG_S = 90
#: Megabytes that a process grows by beside its pictures.
SLACK_BYTES = 48 << 20


def trial(*arguments: str) -> tuple[dict[str, Any], str]:
    """What a process of its own reports, and what it said on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.trial", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TOO_LONG_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def tried() -> tuple[dict[str, Any], str]:
    """The whole corpus, decoded."""
    return trial("corpus")


def test_there_are_three_hundred_files_of_different_names() -> None:
    names = Counter(one.name for one in corpus())
    assert len(names) >= 300
    assert set(names.values()) == {1}


def test_each_file_ends_with_its_code(tried: tuple[dict[str, Any], str]) -> None:
    outcomes = tried[0]["outcomes"]
    wrong = {
        one.name: (outcomes[one.name], set(one.outcomes))
        for one in corpus()
        if outcomes[one.name] not in one.outcomes
    }
    assert wrong == {}


def test_no_file_takes_more_memory_than_there_is_room(tried: tuple[dict[str, Any], str]) -> None:
    assert tried[0]["grown"] < BUDGET_BYTES


def test_nothing_is_said_of_them_in_the_log(tried: tuple[dict[str, Any], str]) -> None:
    assert tried[1] == ""


def test_no_thread_and_no_file_stays_open(tried: tuple[dict[str, Any], str]) -> None:
    assert (tried[0]["threads"], tried[0]["handles"]) == (1, 0)


def large(mode: str = "RGB") -> Image.Image:
    grey = Image.effect_noise((300, 200), 60).resize((3000, 2000))
    bands = len(Image.new(mode, (1, 1)).getbands())
    return grey if bands == 1 else Image.merge(mode, [grey] * bands)


def turning() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"exif": turning()}),
        ("CMYK", "JPEG", {"progressive": True, "exif": turning()}),
        ("RGBA", "PNG", {"compress_level": 1, "exif": turning()}),
        ("L", "PNG", {"compress_level": 1, "transparency": 3}),
        ("RGBA", "WEBP", {"lossless": True, "method": 0, "quality": 0}),
        ("L", "GIF", {"transparency": 3}),
        ("RGBA", "TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: 2000}}),
        ("RGB", "BMP", {}),
    ],
    ids=["jpeg", "turned", "progressive", "png", "key", "webp", "gif", "one-strip", "bmp"],
)
def test_what_decoding_takes_is_known_before(
    tmp_path: Path, mode: str, form: str, options: dict[str, Any]
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(large(mode), form, **options))
    report, _ = trial("file", str(path))
    assert report["grown"] < report["reckoned"] + SLACK_BYTES / 8


def test_large_pictures_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(Image.new("RGBA", (8000, 8000), 90), "PNG", compress_level=1))
    one, _ = trial("file", str(path))
    # On a small machine each needs all the room that there is.
    report, _ = trial("together", str(path), "4")
    assert report["outcomes"] == ["answered"]
    assert report["grown"] < max(BUDGET_BYTES, one["reckoned"]) + SLACK_BYTES
