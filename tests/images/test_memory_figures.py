"""The bytes a pixel in docs/images.md are those that the decoder reserves."""

from __future__ import annotations

import struct

import pytest

from demo.stack import ROOT
from tests.hostile.items import PRIMARY, Item, Reference, built
from worker.images import heif
from worker.images.av1 import MAX_FRAMES
from worker.images.jpeg2000 import _read_size

DOCUMENT = (ROOT / "docs" / "images.md").read_text("utf-8")
#: Bytes of a decoded pixel, RGB or RGBA, and of its copy.
DECODED = 8


def row(image: str) -> int:
    """Return the figure of the table for a kind of image."""
    return int(DOCUMENT.partition(f"\n| {image} | ")[2].split()[0])


@pytest.mark.parametrize(
    ("image", "frames", "is_clear"),
    [
        ("AVIF, HEIC", 1, False),
        ("AVIF, HEIC with transparency", 1, True),
        (f"AVIF of {MAX_FRAMES} layers with transparency", MAX_FRAMES, True),
    ],
)
def test_the_figures_of_avif_and_heic_are_those_of_the_code(
    monkeypatch: pytest.MonkeyPatch, image: str, frames: int, is_clear: bool
) -> None:
    monkeypatch.setattr(heif, "check_av1", lambda *_: frames)
    references = [Reference(b"auxl", 2, [PRIMARY])] if is_clear else []
    data = built({PRIMARY: Item(b"av01"), 2: Item(b"av01")}, references)
    one_pixel = heif.check_heif(data, 1).decoder_bytes - len(data)
    assert row(image) == one_pixel + DECODED


@pytest.mark.parametrize(
    ("image", "components", "bits"),
    [
        ("JPEG 2000, RGB", 3, 8),
        ("JPEG 2000, 4 components", 4, 8),
        ("JPEG 2000, 4 components of 16 bits", 4, 16),
        ("JPEG 2000, 4 components of 32 bits", 4, 32),
    ],
)
def test_the_figures_of_jpeg_2000_are_those_of_the_code(
    image: str, components: int, bits: int
) -> None:
    body = struct.pack(">HIIIIIIIIH", 0, 1, 1, 0, 0, 1, 1, 0, 0, components)
    size = _read_size(body + bytes([bits - 1, 1, 1]) * components, 1)
    assert row(image) == size.pixel_bytes + DECODED
