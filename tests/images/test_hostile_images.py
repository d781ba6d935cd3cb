"""Every hostile file ends with its code, within the time and memory limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from demo.stack import ROOT
from tests.hostile.corpus import corpus
from tests.hostile.specimen import encoded, heic
from tests.images.sample_files import png_of
from worker.images.memory_budget import BUDGET_BYTES

#: Seconds for the whole corpus; far more than it takes: the limit detects a file that never ends.
TIMEOUT_S = 180
#: Growth of a process beside its images.
SLACK_BYTES = 48 << 20


#: Values with which glibc fills memory that it allocates and, inverted, that it frees.
MEMORY_FILLS = (85, 170)


def trial(*arguments: str, memory_fill: int = 0) -> tuple[dict[str, Any], str]:
    """Run a trial in a process of its own; return its report and its stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.trial", *arguments],
        cwd=ROOT,
        env=os.environ | {"MALLOC_PERTURB_": str(memory_fill)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def tried() -> tuple[dict[str, Any], str]:
    """The report of decoding the whole corpus."""
    return trial("corpus")


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


def test_no_answer_shows_what_memory_contained_before(tried: tuple[dict[str, Any], str]) -> None:
    # A run of its own for each value: filling the memory also takes it.
    with ThreadPoolExecutor(len(MEMORY_FILLS)) as pool:
        runs = pool.map(lambda fill: trial("corpus", memory_fill=fill), MEMORY_FILLS)
        reports = [tried[0]["pixels"], *(report["pixels"] for report, _ in runs)]
    differing = [name for name in reports[0] if len({report[name] for report in reports}) > 1]
    assert differing == []


def test_no_file_takes_more_memory_than_the_budget(tried: tuple[dict[str, Any], str]) -> None:
    assert tried[0]["grown"] < BUDGET_BYTES


def test_no_file_causes_log_output(tried: tuple[dict[str, Any], str]) -> None:
    assert tried[1] == ""


def test_no_thread_and_no_file_handle_remains(tried: tuple[dict[str, Any], str]) -> None:
    assert (tried[0]["threads"], tried[0]["handles"]) == (1, 0)


def large(mode: str = "RGB") -> Image.Image:
    grey = Image.effect_noise((300, 200), 60).resize((3000, 2000))
    bands = len(Image.new(mode, (1, 1)).getbands())
    return grey if bands == 1 else Image.merge(mode, [grey] * bands)


def rotated_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"exif": rotated_exif()}),
        ("CMYK", "JPEG", {"progressive": True, "exif": rotated_exif()}),
        ("RGBA", "PNG", {"compress_level": 1, "exif": rotated_exif()}),
        ("L", "PNG", {"compress_level": 1, "transparency": 3}),
        ("RGBA", "WEBP", {"lossless": True, "method": 0, "quality": 0}),
        ("L", "GIF", {"transparency": 3}),
        ("RGBA", "TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: 2000}}),
        ("RGB", "BMP", {}),
        ("RGBA", "AVIF", {"speed": 10, "exif": rotated_exif()}),
        ("RGBA", "HEIF", {"quality": 10}),
        ("RGB", "HEIF", {"quality": 10, "tile_size": 512}),
        ("RGB", "JPEG2000", {"codeblock_size": (32, 32)}),
    ],
    ids=[
        "jpeg",
        "turned",
        "progressive",
        "png",
        "key",
        "webp",
        "gif",
        "one-strip",
        "bmp",
        "avif",
        "heic",
        "tiles",
        "jpeg2000",
    ],
)
def test_the_memory_of_decoding_is_estimated_before(
    tmp_path: Path, mode: str, form: str, options: dict[str, Any]
) -> None:
    path = tmp_path / "picture"
    encode = heic if form == "HEIF" else partial(encoded, form=form)
    path.write_bytes(encode(large(mode), **options))
    report, _ = trial("file", str(path))
    assert report["grown"] < report["estimated"] + SLACK_BYTES / 8


def test_the_memory_of_a_second_decoding_is_estimated_before(tmp_path: Path) -> None:
    """A 16-bit PNG with colours of low values is decoded twice."""
    path = tmp_path / "picture.png"
    path.write_bytes(png_of(np.asarray(large("RGBA")).astype("u2")))
    report, _ = trial("file", str(path))
    assert report["grown"] < report["estimated"] + SLACK_BYTES / 8


def test_large_images_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(Image.new("RGBA", (8000, 8000), 90), "PNG", compress_level=1))
    single, _ = trial("file", str(path))
    # On a small machine each needs the whole budget.
    report, _ = trial("together", str(path), "4")
    assert report["outcomes"] == ["answered"]
    assert report["grown"] < max(BUDGET_BYTES, single["estimated"]) + SLACK_BYTES
