"""JPEG 2000 files: equal to Pillow's own decoding, and complete."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from tests.hostile.specimen import encoded, picture
from worker.errors import ItemRejected
from worker.images.decoder import Decoder, _to_rgb

SIZE = 32
RESAMPLE = Image.Resampling.BICUBIC
DECODER = Decoder(SIZE, RESAMPLE, max_pixels=4_000_000)


def files() -> dict[str, bytes]:
    image = picture(130, 100)
    sixteen = Image.frombytes("I;16", (64, 48), bytes(range(256)) * 24)
    modes = {mode: encoded(image.convert(mode), "JPEG2000") for mode in ("RGB", "RGBA", "L", "LA")}
    tiles = {"tile_size": (64, 64), "offset": (10, 10), "tile_offset": (5, 5)}
    lossy = {"irreversible": True, "quality_mode": "rates", "quality_layers": [40, 20, 10]}
    blocks = {"precinct_size": (64, 64), "codeblock_size": (32, 32), "progression": "RPCL"}
    return modes | {
        "codestream": encoded(image, "JPEG2000", no_jp2=True),
        "sixteen-bits": encoded(sixteen, "JPEG2000"),
        "tiles": encoded(image, "JPEG2000", **tiles),
        "lossy": encoded(image, "JPEG2000", **lossy),
        "blocks": encoded(image, "JPEG2000", **blocks),
        "packet-lengths": encoded(image, "JPEG2000", plt=True, comment="a comment"),
        "one-pixel": encoded(picture(1, 1), "JPEG2000"),
    }


@pytest.mark.parametrize(("name", "data"), files().items(), ids=files())
def test_each_kind_equals_pillow_bit_for_bit(name: str, data: bytes) -> None:
    own = _to_rgb(Image.open(io.BytesIO(data))).resize((SIZE, SIZE), RESAMPLE)
    assert DECODER.decode(data) == own.tobytes()


def test_a_missing_tile_is_not_black() -> None:
    data = encoded(picture(128, 64), "JPEG2000", tile_size=(64, 64), no_jp2=True)
    second = data.index(b"\xff\x90", data.index(b"\xff\x90") + 2)
    with pytest.raises(ItemRejected, match="lacks tiles"):
        DECODER.decode(data[:second] + b"\xff\xd9")
