"""Every hostile file ends with its code, within the time and memory limits."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image

from demo.stack import ROOT
from tests.hostile.corpus import corpus, lacking
from tests.hostile.memory_fill import filled_memory
from tests.hostile.specimen import encoded, heic
from tests.hostile.trial import estimated_bytes, outcome_and_pixels
from tests.images.sample_files import png_of
from worker.images.memory_budget import BUDGET_BYTES

#: Seconds for the whole corpus; far more than it takes: the limit detects a file that never ends.
TIMEOUT_S = 180
#: Growth of a process beside its images.
SLACK_BYTES = 48 << 20


def trial(*arguments: str | Path) -> tuple[dict[str, Any], str]:
    """Run a trial in a process of its own; return its report and its stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.trial", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The report of decoding the whole corpus, which takes seconds to make."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.pickle"
    path.write_bytes(pickle.dumps(corpus()))
    return trial("corpus", path)


def test_the_corpus_has_three_hundred_files_with_distinct_names() -> None:
    names = Counter(file.name for file in corpus())
    assert len(names) >= 300
    assert set(names.values()) == {1}


def test_each_file_ends_with_its_code(tried: tuple[dict[str, Any], str]) -> None:
    outcomes = tried[0]["outcomes"]
    unexpected = {
        file.name: (outcomes[file.name], set(file.outcomes))
        for file in corpus()
        if outcomes[file.name] not in file.outcomes
    }
    assert unexpected == {}


def test_no_answer_shows_what_memory_contained_before(
    tried: tuple[dict[str, Any], str],
) -> None:
    with filled_memory(85):
        pixels = {file.name: outcome_and_pixels(file.data)[1] for file in lacking()}
    assert {name for name in pixels if pixels[name] != tried[0]["pixels"][name]} == set()


def test_no_file_takes_more_memory_than_the_budget(tried: tuple[dict[str, Any], str]) -> None:
    assert tried[0]["grown"] < BUDGET_BYTES


def test_no_file_causes_log_output(tried: tuple[dict[str, Any], str]) -> None:
    assert tried[1] == ""


def test_no_thread_and_no_file_handle_remains(tried: tuple[dict[str, Any], str]) -> None:
    assert (tried[0]["threads"], tried[0]["handles"]) == (1, 0)


def large(mode: str = "RGB") -> Image.Image:
    grey = Image.effect_noise((300, 200), 60).resize((2000, 1500))
    bands = len(Image.new(mode, (1, 1)).getbands())
    return grey if bands == 1 else Image.merge(mode, [grey] * bands)


def rotated_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


#: Mode, format and options of a large picture.
PICTURES: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "jpeg": ("RGB", "JPEG", {}),
    "turned": ("RGB", "JPEG", {"exif": rotated_exif()}),
    "progressive": ("CMYK", "JPEG", {"progressive": True, "exif": rotated_exif()}),
    "png": ("RGBA", "PNG", {"compress_level": 1, "exif": rotated_exif()}),
    "key": ("L", "PNG", {"compress_level": 1, "transparency": 3}),
    "webp": ("RGBA", "WEBP", {"lossless": True, "method": 0, "quality": 0}),
    "gif": ("L", "GIF", {"transparency": 3}),
    "one-strip": ("RGBA", "TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: 1500}}),
    "bmp": ("RGB", "BMP", {}),
    "avif": ("RGBA", "AVIF", {"speed": 10, "exif": rotated_exif()}),
    "heic": ("RGBA", "HEIF", {"quality": 10}),
    "tiles": ("RGB", "HEIF", {"quality": 10, "tile_size": 512}),
    "jpeg2000": ("RGB", "JPEG2000", {"codeblock_size": (32, 32)}),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of the large pictures."""
    directory, paths = tmp_path_factory.mktemp("pictures"), []
    for name, (mode, form, options) in PICTURES.items():
        encode = heic if form == "HEIF" else partial(encoded, form=form)
        paths.append(directory / name)
        paths[-1].write_bytes(encode(large(mode), **options))
    # A 16-bit PNG with colours of low values is decoded twice.
    paths.append(directory / "low")
    paths[-1].write_bytes(png_of(np.asarray(large("RGBA")).astype("u2")))
    return paths


@pytest.fixture(
    scope="module", params=["pil", pytest.param("torchvision", marks=pytest.mark.exhaustive)]
)
def memory(request: pytest.FixtureRequest, pictures: list[Path]) -> dict[str, dict[str, int]]:
    """The estimated and the actual memory of decoding each large picture, in bytes."""
    return trial("files", request.param, *pictures)[0]


@pytest.mark.parametrize("name", [*PICTURES, "low"])
def test_the_memory_of_decoding_is_estimated_before(
    memory: dict[str, dict[str, int]], name: str
) -> None:
    report = memory[name]
    assert report["grown"] < report["estimated"] + SLACK_BYTES / 8


def test_large_images_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(Image.new("RGBA", (8000, 8000), 90), "PNG", compress_level=1))
    estimated = estimated_bytes(path.read_bytes())
    # Two more than the budget allows: on a small machine each needs more than half of it.
    report, _ = trial("together", path, str(BUDGET_BYTES // estimated + 2))
    assert report["outcomes"] == ["answered"]
    assert report["grown"] < max(BUDGET_BYTES, estimated) + SLACK_BYTES
