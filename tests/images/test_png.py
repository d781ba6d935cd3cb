"""PNGs whose picture is in many chunks."""

from __future__ import annotations

from PIL import Image

from tests.hostile.specimen import chunk, encoded, picture
from worker.images.decoder import Decoder

DECODER = Decoder(32, Image.Resampling.BICUBIC, max_pixels=4_000_000)


def test_a_picture_in_thousands_of_pixel_chunks_is_decoded() -> None:
    # libpng writes a chunk for each 8 KiB, other encoders one for each row.
    data = encoded(picture(100, 100), "PNG", compress_level=0)
    start, end = data.index(b"IDAT"), data.index(b"IEND") - 4
    pixels = data[start + 4 : end - 4]
    chunks = [chunk(b"IDAT", pixels[n : n + 6]) for n in range(0, len(pixels), 6)]
    assert len(chunks) > 5000
    assert DECODER.decode(data[: start - 4] + b"".join(chunks) + data[end:]) == DECODER.decode(data)
