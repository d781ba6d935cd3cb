"""JPEGs with something behind their end, and with many scans."""

from __future__ import annotations

from random import Random

import pytest
from PIL import Image

from tests.hostile.specimen import encoded, picture, segment
from worker.errors import ItemRejected
from worker.images.decoder import Decoder
from worker.images.jpeg import strip_jpeg

DECODER = Decoder(32, Image.Resampling.BICUBIC, max_pixels=64_000_000)
SCAN = b"\xff\xda\0\x08\1\1\0\1\1\0\x00"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    "behind",
    [b"\0\0\0\x18ftypmp42" + Random(1).randbytes(1 << 20) + SCAN * 2000, SCAN * 2000],
    ids=["film", "scans"],
)
def test_bytes_behind_the_end_of_a_large_jpeg_do_not_count(
    behind: bytes, progressive: bool
) -> None:
    photo = encoded(picture(1600, 1200), "JPEG", quality=30, progressive=progressive)
    assert DECODER.decode(photo + behind) == DECODER.decode(photo)
    jpeg = strip_jpeg(photo + behind, 64_000_000)
    assert jpeg.is_progressive == progressive


def test_a_scan_in_a_segment_between_scans_does_not_count() -> None:
    data = encoded(picture(), "JPEG", progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    hidden = data[:second] + segment(0xE5, SCAN * 900) + data[second:]
    assert DECODER.decode(hidden) == DECODER.decode(data)


def test_many_scans_of_a_large_jpeg_are_rejected() -> None:
    photo = encoded(picture(1600, 1200), "JPEG", quality=1, progressive=True)
    with pytest.raises(ItemRejected, match="more scans than an image needs"):
        DECODER.decode(photo[:-2] + SCAN * 2000)


def test_the_restart_markers_of_a_large_jpeg_do_not_count() -> None:
    # One before each block: more than the segments that a file may have.
    grey = Image.new("L", (4160, 4160))
    data = encoded(grey, "JPEG", restart_marker_blocks=1)
    assert not strip_jpeg(data, 64_000_000).is_progressive


@pytest.mark.parametrize(
    "metadata",
    [
        segment(0xE0, b"JFIF\0"),
        segment(0xEE, b"Adobe"),
        segment(0xED, b"Photoshop 3.0\0") * 100,
        segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 300,
        segment(0xFE, b"words") * 2000,
    ],
    ids=["short-jfif", "short-adobe", "photoshop", "18-megabytes", "comments"],
)
def test_metadata_never_rejects_a_jpeg(metadata: bytes) -> None:
    data = encoded(picture(), "JPEG")
    assert DECODER.decode(data[:2] + metadata + data[2:]) == DECODER.decode(data)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_the_markers_of_the_colour_space_stay(mode: str) -> None:
    data = encoded(picture(mode=mode), "JPEG", keep_rgb=mode == "RGB")
    stripped = strip_jpeg(data, 64_000_000).stripped.data
    assert DECODER.decode(data) == DECODER.decode(stripped)
