"""A picture that its file does not fill wholly is invalid, whatever was decoded before."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from tests.hostile.specimen import encoded, picture
from worker.errors import ItemRejected
from worker.images.decoder import Decoder

DECODER = Decoder(32, Image.Resampling.BICUBIC, max_pixels=4_000_000)


def declaring(data: bytes, rows: int) -> bytes:
    """Return a TIFF that declares one strip of these rows."""
    changed = bytearray(data)
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for position in range(start + 2, start + 2 + count * 12, 12):
        if struct.unpack_from("<H", data, position)[0] in (257, 278):
            kind = struct.unpack_from("<H", data, position + 2)[0]
            struct.pack_into({3: "<H", 4: "<I"}[kind], changed, position + 8, rows)
    return bytes(changed)


@pytest.mark.parametrize(("mode", "compression"), [("L", "jpeg"), ("1", "group4")])
def test_a_strip_without_its_last_rows_shows_no_earlier_picture(
    mode: str, compression: str
) -> None:
    strip = Image.new(mode, (640, 8), 1)
    whole = encoded(strip, "TIFF", compression=compression, tiffinfo={278: 8})
    assert len(DECODER.decode(whole)) == 32 * 32 * 3
    for seed in (1, 2):
        DECODER.decode(encoded(picture(640, 480, seed=seed), "TIFF", compression="jpeg"))
        with pytest.raises(ItemRejected, match="fewer pixels than its header declares"):
            DECODER.decode(declaring(whole, 480))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("value", [0, 0x5A, 255])
def test_a_png_with_a_flat_bottom_is_complete(mode: str, value: int) -> None:
    bands = len(Image.new(mode, (1, 1)).getbands())
    image = Image.new(mode, (9, 9), value if bands == 1 else (value,) * bands)
    assert len(DECODER.decode(encoded(image, "PNG"))) == 32 * 32 * 3


def test_a_frame_may_be_smaller_than_the_screen_of_its_gif() -> None:
    data = bytearray(encoded(Image.new("P", (8, 8), 1), "GIF"))
    struct.pack_into("<HH", data, 6, 16, 16)
    shown = Image.open(io.BytesIO(data))
    assert shown.size == (16, 16)
    assert DECODER.decode(bytes(data)) == DECODER.decode(encoded(shown.convert("RGB"), "PNG"))
