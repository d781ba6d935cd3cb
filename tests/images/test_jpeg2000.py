"""JPEG 2000 files: equal to Pillow's own decoding, and complete."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from tests.hostile.specimen import encoded, picture
from worker.errors import ItemRejected
from worker.images.decoder import Decoder, _to_rgb
from worker.images.jpeg2000 import check_jpeg2000

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


def codestream(side: int, tile: int, layers: int, *components: bytes) -> bytes:
    """Return the markers of a codestream without packets: SIZ, COD, each COC, and the tiles."""
    size = struct.pack(">HIIIIIIIIH", 0, side, side, 0, 0, tile, tile, 0, 0, 3) + b"\7\1\1" * 3
    coding = struct.pack(">BBHB", 0, 0, layers, 0) + bytes([5, 4, 4, 0, 1])
    markers = [(0x51, size), (0x52, coding), *((0x53, component) for component in components)]
    header = b"".join(
        struct.pack(">BBH", 0xFF, code, len(body) + 2) + body for code, body in markers
    )
    parts = b"".join(
        b"\xff\x90" + struct.pack(">HHIBB", 10, index, 14, 0, 1) + b"\xff\x93"
        for index in range((side // tile) ** 2)
    )
    return b"\xff\x4f" + header + parts + b"\xff\xd9"


def component(index: int, levels: int, exponent: int) -> bytes:
    """Return the content of a COC: the coding options of one component."""
    return bytes([index, 1, levels, 4, 4, 0, 1]) + bytes([exponent]) * (levels + 1)


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize(
    ("levels", "exponent"), [(5, 0x55), (32, 0xFF), (32, 0x88)], ids=["precincts", "levels", "both"]
)
def test_the_layers_of_all_components_count_with_the_options_of_one(
    index: int, levels: int, exponent: int
) -> None:
    options = component(index, levels, exponent)
    check_jpeg2000(codestream(2000, 2000, 60_000), 4_000_000)
    check_jpeg2000(codestream(2000, 2000, 1, options), 4_000_000)
    with pytest.raises(ItemRejected, match="more precincts or code blocks"):
        check_jpeg2000(codestream(2000, 2000, 60_000, options), 4_000_000)


def test_the_packets_of_all_tiles_count() -> None:
    check_jpeg2000(codestream(1920, 1920, 60_000), 4_000_000)
    check_jpeg2000(codestream(1920, 30, 100), 4_000_000)
    with pytest.raises(ItemRejected, match="more packets in its tiles"):
        check_jpeg2000(codestream(1920, 30, 60_000), 4_000_000)


def test_a_component_has_coding_options_once() -> None:
    options = [component(index, 5, 0xFF) for index in range(3)]
    check_jpeg2000(codestream(64, 64, 1, *options), 4_000_000)
    with pytest.raises(ItemRejected, match="more coding options"):
        check_jpeg2000(codestream(64, 64, 1, *options, options[0]), 4_000_000)
