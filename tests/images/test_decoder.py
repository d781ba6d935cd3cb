"""The decoder, compared with the processor of transformers."""

from __future__ import annotations

import contextlib
import io
import resource
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from transformers import BlipImageProcessorPil

from producer.contract import ErrorCode
from tests.hostile.specimen import tiff
from worker.errors import ItemRejected
from worker.images.decoder import Decoder
from worker.images.memory_budget import MemoryBudget

SIZE = 32
DECODER = Decoder(SIZE, Image.Resampling.BICUBIC, max_pixels=4_000_000)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(width: int = 90, height: int = 60, mode: str = "RGB") -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(7).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), values.tobytes())


def pixels(data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(DECODER.decode(data), dtype=np.uint8).reshape(SIZE, SIZE, 3)


def rejection(data: bytes) -> ItemRejected:
    with pytest.raises(ItemRejected) as raised:
        DECODER.decode(data)
    return raised.value


@pytest.mark.parametrize(
    "data",
    [
        encoded(noise()),
        encoded(noise(), "JPEG", quality=80),
        encoded(noise(), "WEBP"),
        encoded(noise(mode="L")),
        encoded(noise(mode="RGBA")),
        encoded(noise(mode="LA")),
        encoded(noise().quantize(16)),
        encoded(noise(mode="CMYK"), "JPEG"),
        encoded(noise().convert("P"), "GIF"),
    ],
    ids=["png", "jpeg", "webp", "grey", "rgba", "grey-alpha", "palette", "cmyk", "gif"],
)
def test_pixels_equal_those_of_the_processor_bit_for_bit(data: bytes) -> None:
    processor = BlipImageProcessorPil(size={"height": SIZE, "width": SIZE})
    expected = processor(Image.open(io.BytesIO(data)), do_rescale=False, do_normalize=False)
    np.testing.assert_array_equal(
        pixels(data), np.asarray(expected["pixel_values"][0]).transpose(1, 2, 0)
    )


def test_a_palette_with_transparency_lies_on_white() -> None:
    image = Image.new("P", (10, 10), 0)
    image.putpalette([200, 0, 0] * 256)
    assert (pixels(encoded(image, transparency=0)) == 255).all()


def test_exif_rotation_is_applied() -> None:
    image = Image.new("RGB", (64, 64), "black")
    image.paste("white", (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter: the top becomes the right side
    turned = pixels(encoded(image, "PNG", exif=exif))
    assert turned[:, -4:].mean() > 250
    assert turned[:, :4].mean() < 5


@pytest.mark.parametrize("endian", ["<", ">"], ids=["intel", "motorola"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", range(1, 10))
def test_each_orientation_equals_pillows_own(form: str, value: int, endian: str) -> None:
    exif = Image.Exif()
    exif.endian = endian
    exif[0x0112] = value
    data = encoded(noise(), form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (pixels(data) == pixels(encoded(turned))).all()


def test_a_large_image_is_converted_in_strips_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [noise(mode="RGBA"), noise(mode="LA"), noise().quantize(16)]
    files += [noise(mode="L").convert("I"), noise(mode="L").convert("F")]
    encodings = [
        encoded(
            image,
            "TIFF" if image.mode in "IF" else "PNG",
            **({"transparency": 3} if image.mode == "P" else {}),
        )
        for image in files
    ]
    whole = [pixels(data).copy() for data in encodings]
    monkeypatch.setattr("worker.images.decoder.STRIP_PIXELS", 700)
    for data, expected in zip(encodings, whole, strict=True):
        np.testing.assert_array_equal(pixels(data), expected)


@pytest.mark.parametrize("kind", [2, 5, 7, 12])
def test_invalid_exif_data_does_not_reject_an_image(kind: int) -> None:
    exif = b"Exif\0\0" + tiff([(274, 3, 1, 6), (282, kind, 3, 38), (34665, 4, 1, 8)], b"words")
    turned = noise().transpose(Image.Transpose.ROTATE_270)
    assert (pixels(encoded(noise(), "PNG", exif=exif)) == pixels(encoded(turned))).all()


def test_the_first_frame_of_an_animation_is_decoded() -> None:
    first, second = Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue")
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    assert (pixels(data) == (255, 0, 0)).all()


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.full((8, 8), 32768, dtype=np.uint16)
    image = Image.frombytes("I;16", (8, 8), values.tobytes())
    assert (abs(pixels(encoded(image)).astype(int) - 127) <= 1).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"just some words, named .jpg", "not an image"),
        (encoded(noise(), "JPEG")[:700], "cannot be decoded"),
        (encoded(noise())[:2000], "cannot be decoded"),
        (encoded(noise(), "WEBP")[:400], "the WebP image cannot be decoded: it is damaged"),
        (encoded(noise(), "GIF")[:40], "the GIF image cannot be decoded"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
    ],
    ids=["empty", "text", "cut-jpeg", "cut-png", "cut-webp", "cut-gif", "jpeg-head", "svg"],
)
def test_data_that_is_not_an_image_is_rejected_as_invalid(data: bytes, message: str) -> None:
    error = rejection(data)
    assert error.code is ErrorCode.IMAGE_INVALID
    assert message in str(error)


def test_a_flipped_bit_anywhere_never_raises_anything_but_an_image_error() -> None:
    for form in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        data = bytearray(encoded(noise(20, 14).convert("P" if form == "GIF" else "RGB"), form))
        for index in range(0, len(data), 7):
            data[index] ^= 0x41
            # Some files survive the flip; any other exception fails the test.
            with contextlib.suppress(ItemRejected):
                DECODER.decode(bytes(data))
            data[index] ^= 0x41


def test_a_decompression_bomb_is_rejected_by_its_header() -> None:
    bomb = encoded(Image.new("1", (20_000, 20_000)), optimize=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = rejection(bomb)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert error.code is ErrorCode.IMAGE_TOO_LARGE
    assert "20000 x 20000" in str(error)
    assert "BLIPLINE_MAX_IMAGE_PIXELS" in str(error)
    assert grown_kib < 32 * 1024


def test_draft_mode_is_close_and_leaves_other_formats_exact() -> None:
    smooth = noise(12, 9).resize((640, 480), Image.Resampling.BICUBIC)
    draft = Decoder(SIZE, Image.Resampling.BICUBIC, max_pixels=4_000_000, draft=1)
    jpeg, png = encoded(smooth, "JPEG", quality=90), encoded(smooth)
    difference = np.abs(pixels(jpeg).astype(int).ravel() - np.frombuffer(draft.decode(jpeg), "u1"))
    assert 0 < difference.mean() < 2
    assert draft.decode(png) == DECODER.decode(png)


def test_draft_mode_does_not_let_a_large_image_through() -> None:
    draft = Decoder(SIZE, Image.Resampling.BICUBIC, max_pixels=1000, draft=1)
    with pytest.raises(ItemRejected, match="640 x 480"):
        draft.decode(encoded(noise(640, 480), "JPEG"))


@pytest.mark.parametrize("progressive", [False, True])
def test_draft_mode_reserves_what_the_check_of_a_cut_jpeg_decodes(
    monkeypatch: pytest.MonkeyPatch, progressive: bool
) -> None:
    budget = MemoryBudget(1 << 30)
    reserved: list[int] = []
    reserve = budget.reserve

    def recorded(size_bytes: int) -> AbstractContextManager[None]:
        reserved.append(size_bytes)
        return reserve(size_bytes)

    monkeypatch.setattr(budget, "reserve", recorded)
    draft = Decoder(SIZE, Image.Resampling.BICUBIC, 4_000_000, draft=1, budget=budget)
    jpeg = encoded(noise(640, 480), "JPEG", progressive=progressive)
    assert draft.decode(jpeg) != DECODER.decode(jpeg)
    assert draft.decode(jpeg[:-2]) == DECODER.decode(jpeg)
    small, whole = reserved
    # At least the pixels of the check, beyond those of the draft.
    assert whole - small > 640 * 480 * 4 * 0.9


@pytest.mark.parametrize(
    ("size", "expected"),
    [((20, 10), (20, 10)), ((32, 32), (32, 32)), ((90, 60), (39, 26)), ((4096, 1), (1024, 1))],
)
def test_an_image_keeps_its_proportions_within_the_bound(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    decoder = Decoder(SIZE, Image.Resampling.BICUBIC, 4_000_000, keeps_proportions=True)
    for turned in (False, True):
        source = noise(*(size[::-1] if turned else size))
        decoded = Image.open(io.BytesIO(decoder.decode(encoded(source))))
        assert decoded.format == "PPM"
        bound = expected[::-1] if turned else expected
        resized = source.resize(bound, Image.Resampling.BICUBIC)
        assert decoded.size == bound
        np.testing.assert_array_equal(np.asarray(decoded), np.asarray(resized))
