"""Truncated files: refused, complete without their end marker, or with a grey rest."""

from __future__ import annotations

import hashlib
import io
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from producer.contract import ErrorCode
from tests.hostile.damage import sound
from tests.hostile.memory_fill import filled_memory
from tests.hostile.specimen import encoded, picture
from worker.errors import ItemRejected
from worker.images.decoder import Decoder
from worker.images.loader import ImageLoader

SIZE = 64
RESAMPLE = Image.Resampling.BICUBIC
REFUSING = Decoder(SIZE, RESAMPLE, max_pixels=4_000_000)
ACCEPTING = Decoder(SIZE, RESAMPLE, max_pixels=4_000_000, accepts_truncated=True)
JPEGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "full-chroma": {"subsampling": 0},
    "best": {"quality": 100},
    "restarts": {"restart_marker_rows": 1},
}


@pytest.fixture
def accept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Pillow decode truncated files."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)


def decoded(decoder: Decoder, data: bytes) -> bytes | None:
    try:
        return decoder.decode(data)
    except ItemRejected as error:
        return None if error.code is ErrorCode.IMAGE_INVALID else b"another error"


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_that_lacks_only_its_end_marker_is_decoded(name: str) -> None:
    data = encoded(picture(333, 207), "JPEG", **JPEGS[name])
    assert REFUSING.decode(data[:-2]) == REFUSING.decode(data[:-1]) == REFUSING.decode(data)


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_that_lacks_pixels_is_refused_and_never_decoded_to_others(name: str) -> None:
    data = encoded(picture(333, 207), "JPEG", **JPEGS[name])
    complete = REFUSING.decode(data)
    for cut in (*range(3, 40), 200, 1000):
        assert decoded(REFUSING, data[:-cut]) in (None, complete)
    assert decoded(REFUSING, data[:-200]) is None


def test_a_progressive_jpeg_without_its_last_scan_is_refused() -> None:
    data = encoded(picture(), "JPEG", progressive=True)
    with pytest.raises(ItemRejected, match="BLIPLINE_TRUNCATED_IMAGES=accept"):
        REFUSING.decode(data[: data.rindex(b"\xff\xda")])


@pytest.mark.usefixtures("accept")
def test_a_truncated_jpeg_is_decoded_as_by_pillow() -> None:
    data = encoded(picture(333, 207), "JPEG")
    for part in (0.3, 0.5, 0.9):
        cut = data[: int(len(data) * part)]
        own = Image.open(io.BytesIO(cut)).resize((SIZE, SIZE), RESAMPLE)
        assert ACCEPTING.decode(cut) == own.tobytes()


@pytest.mark.usefixtures("accept")
@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *product(("PNG", "BMP", "PPM", "TIFF"), ("RGB", "L")),
        *product(("PNG", "TIFF"), ("RGBA", "I;16")),
        *product(("TIFF",), ("CMYK", "LAB")),
    ],
)
def test_the_rest_of_a_truncated_file_is_grey(form: str, mode: str) -> None:
    image = picture(333, 208, mode) if mode != "I;16" else Image.new(mode, (333, 208), 60_000)
    data = encoded(image, form, **({"compress_level": 0} if form == "PNG" else {}))
    rest = np.frombuffer(ACCEPTING.decode(data[: len(data) // 2]), "u1").reshape(SIZE, SIZE, 3)
    # A BMP begins with its last row.
    rest = rest[: SIZE // 3] if form == "BMP" else rest[-SIZE // 3 :]
    assert set(rest.ravel()) <= {127, 128}


def test_the_loader_makes_pillow_accept_truncated_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    nothing: Any = SimpleNamespace(models=())
    ImageLoader(nothing, nothing, nothing, 1000)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    ImageLoader(nothing, nothing, nothing, 1000, accepts_truncated=True)
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_sound_file_does_not_depend_on_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    files = sound()
    refusing = {name: REFUSING.decode(data) for name, data in files.items()}
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert {name: ACCEPTING.decode(data) for name, data in files.items()} == refusing


def digests() -> dict[str, str]:
    """Decode truncated files of all formats, and return a hash of each."""
    results = {}
    for name, data in sound().items():
        for part in (0.2, 0.5, 0.8):
            pixels = decoded(ACCEPTING, data[: int(len(data) * part)]) or b""
            results[f"{name} {part}"] = hashlib.sha256(pixels).hexdigest()
    return results


@pytest.mark.usefixtures("accept")
def test_no_memory_of_other_pictures_shows() -> None:
    reports = []
    for value in (85, 170):
        with filled_memory(value):
            reports.append(digests())
    assert reports[0] == reports[1]
    assert len(set(reports[0].values())) > 10
