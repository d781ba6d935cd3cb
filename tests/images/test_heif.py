"""AVIF and HEIC files: equal to their libraries' own decoding, turned once, one image of many."""

from __future__ import annotations

import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps

from producer.contract import ErrorCode
from tests.hostile.items import PRIMARY, Item, Reference, built, grid
from tests.hostile.specimen import encoded, heic, picture
from worker.errors import ItemRejected
from worker.images import heif, heif_images
from worker.images.av1 import Bits, Sequence, _has_own_size
from worker.images.decoder import Decoder, _to_rgb

SIZE = 32
RESAMPLE = Image.Resampling.BICUBIC
DECODER = Decoder(SIZE, RESAMPLE, max_pixels=4_000_000)


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def own(data: bytes) -> Image.Image:
    """Decode with Pillow or pillow-heif, and turn the image."""
    if data[8:12] == b"avif" or data[8:12] == b"avis":
        return ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    image = pillow_heif.open_heif(io.BytesIO(data)).to_pillow()
    return ImageOps.exif_transpose(image)


def square(image: Image.Image) -> bytes:
    return _to_rgb(image).resize((SIZE, SIZE), RESAMPLE).tobytes()


def files() -> dict[str, bytes]:
    image, clear = picture(), picture(mode="RGBA")
    sixteen = Image.frombytes("I;16", (64, 48), bytes(range(256)) * 24)
    more = {"save_all": True, "append_images": [picture(seed=8)]}
    return {
        "colours.avif": encoded(image, "AVIF"),
        "alpha.avif": encoded(clear, "AVIF"),
        "grey.avif": encoded(image.convert("L"), "AVIF"),
        "full-chroma.avif": encoded(image, "AVIF", subsampling="4:4:4"),
        "odd.avif": encoded(picture(91, 61), "AVIF"),
        "one-pixel.avif": encoded(picture(1, 1), "AVIF"),
        "animated.avif": encoded(image, "AVIF", **more),
        "colours.heic": heic(image),
        "alpha.heic": heic(clear),
        "grey.heic": heic(image.convert("L")),
        "full-chroma.heic": heic(image, chroma="444"),
        "odd.heic": heic(picture(91, 61)),
        "one-pixel.heic": heic(picture(1, 1)),
        "tiles.heic": heic(picture(256, 192), tile_size=64),
        "ten-bits.heic": heic(sixteen),
    }


@pytest.mark.parametrize(("name", "data"), files().items(), ids=files())
def test_each_kind_equals_its_library_bit_for_bit(name: str, data: bytes) -> None:
    assert DECODER.decode(data) == square(own(data))


@pytest.mark.parametrize("form", ["avif", "heic"])
@pytest.mark.parametrize("value", range(1, 9))
def test_the_image_is_turned_once(form: str, value: int) -> None:
    image = picture()
    plain = encoded(image, "AVIF", quality=100) if form == "avif" else heic(image, -1)
    turned = exif(value)
    data = (
        encoded(image, "AVIF", quality=100, exif=turned)
        if form == "avif"
        else heic(image, -1, exif=turned.tobytes())
    )
    upright = own(plain)
    upright.getexif()[0x0112] = value
    expected = np.frombuffer(square(ImageOps.exif_transpose(upright)), "u1")
    assert (np.frombuffer(DECODER.decode(data), "u1") == expected).all()


def test_the_boxes_alone_determine_the_orientation() -> None:
    plain = encoded(picture(), "AVIF")
    xmp = b'<x:xmpmeta><rdf tiff:Orientation="6"/></x:xmpmeta>'
    assert DECODER.decode(encoded(picture(), "AVIF", xmp=xmp)) == DECODER.decode(plain)


def test_an_animation_gives_its_still_image_without_its_movie() -> None:
    frames = [picture(seed=seed) for seed in range(3)]
    moving = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    broken = moving.replace(b"stbl", b"\xff" * 4)
    assert DECODER.decode(broken) == DECODER.decode(moving) == square(own(moving))


@pytest.mark.parametrize(
    ("library", "data", "remedy"),
    [
        ("_LIBHEIF", heic(picture()), "install pillow-heif"),
        ("_LIBAVIF", encoded(picture(), "AVIF"), "install a Pillow with AVIF"),
    ],
)
def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, library: str, data: bytes, remedy: str
) -> None:
    monkeypatch.setattr(heif_images, library, None)
    with pytest.raises(ItemRejected, match=remedy) as raised:
        DECODER.decode(data)
    assert raised.value.code is ErrorCode.IMAGE_INVALID


def test_a_layered_frame_of_another_size_is_not_decoded() -> None:
    sequence = Sequence(is_still=False, screen_tools=0)
    # Shown key frame: show_existing, type, shown, disable_cdf_update, then the size's flag.
    assert _has_own_size(sequence, Bits(bytes([0b0001_0100, 0])))
    assert not _has_own_size(sequence, Bits(bytes([0b0001_0000, 0])))


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("tiles", [1, 12])
def test_each_item_is_checked_once_however_many_references_name_it(
    monkeypatch: pytest.MonkeyPatch, tiles: int, times: int
) -> None:
    checked: list[bytes] = []

    def check(data: memoryview, *_: int) -> int:
        checked.append(bytes(data))
        return 1

    monkeypatch.setattr(heif, "check_av1", check)
    # Tiles that occur several times, all with the same auxiliary image, as in another grid.
    items = {number: Item(b"av01", bytes([number])) for number in range(10, 10 + tiles)}
    members = list(items) * times
    data = built(
        {PRIMARY: grid(times, tiles), 2: grid(times, tiles), 3: Item(b"av01", b"\3")} | items,
        [
            Reference(b"dimg", PRIMARY, members),
            Reference(b"dimg", 2, members),
            Reference(b"auxl", 2, [PRIMARY] * times),
            Reference(b"auxl", 3, members),
        ],
    )
    still = heif.check_heif(data, max_pixels=1000)
    assert sorted(checked) == sorted([b"\3", *map(bytes, zip(items, strict=True))])
    # Planes of each tile and its auxiliary image in both grids; the grids; RGBA; the file.
    assert still.decoder_bytes == 6 * len(members) * 2 * 2 + 6 + 2 + 4 + len(data)


@pytest.mark.parametrize("count", [64, 65])
@pytest.mark.parametrize("target", [PRIMARY, 2], ids=["primary", "tile"])
def test_an_image_has_a_limited_number_of_auxiliary_images(target: int, count: int) -> None:
    auxiliaries = range(10, 10 + count)
    items = {PRIMARY: grid(1, 1), 2: Item(b"hvc1")} | dict.fromkeys(auxiliaries, Item(b"hvc1"))
    references = [Reference(b"auxl", item, [target]) for item in auxiliaries]
    data = built(items, [Reference(b"dimg", PRIMARY, [2]), *references])
    if count <= heif.MAX_AUXILIARIES:
        assert heif.check_heif(data, 1000).format == "HEIF"
    else:
        with pytest.raises(ItemRejected, match="more auxiliary images"):
            heif.check_heif(data, 1000)
