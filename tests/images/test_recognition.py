"""Names and remedies of files that are no image."""

from __future__ import annotations

import pytest

from producer.contract import ErrorCode
from tests.hostile.specimen import encoded, picture
from tests.hostile.strangers import strangers
from worker.errors import ItemRejected
from worker.images.inspection import inspect_image

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def message(data: bytes) -> str:
    with pytest.raises(ItemRejected) as raised:
        inspect_image(data, 64_000_000)
    assert raised.value.code is ErrorCode.IMAGE_INVALID
    return str(raised.value)


@pytest.mark.parametrize(
    ("data", "name", "remedy"),
    [
        (b"<!DOCTYPE html><html>404", "an HTML page", "send the image itself"),
        (b"\n <HTML><body>", "an HTML page", "send the image itself"),
        (b"PK\x03\x04" + bytes(40), "a ZIP archive", "extract"),
        (POINTER, "a Git LFS pointer", "git lfs pull"),
        (b"%PDF-1.7\n", "a PDF", "save its page"),
        (b"<?xml version='1.0'?><!-- x --><svg/>", "an SVG drawing", "PNG or JPEG"),
        (b"\xff\x0a" + bytes(40), "a JPEG XL image", "PNG or JPEG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image", "PNG or JPEG"),
        (b'{"error": 404}', "a JSON text", "send the image itself"),
        (b"\0\0\0\x18ftypisom\0\0\2\0", "a video", "extract a frame"),
        (b"\0\0\0\x18ftypcrx \0\0\2\0", "a raw camera file", "export"),
        (b"data:image/png;base64,iVBO", "a data: URL", "bytes that it encodes"),
        (b"iVBORw0KGgoAAAA", "a PNG in base64", "decode it"),
        (b"  " + encoded(picture(), "PNG"), "an image with bytes before", "remove them"),
        (bytes(5000), "zeros", "transfer the file again"),
        ("kein Bild: Wörter".encode(), "a text", "send the image itself"),
        ("Wörter".encode("utf-16"), "a text", "send the image itself"),
    ],
)
def test_a_file_is_named_with_its_remedy(data: bytes, name: str, remedy: str) -> None:
    assert message(data).startswith(f"not an image but {name}")
    assert remedy in message(data)


def test_noise_is_not_named() -> None:
    assert "use one of JPEG, PNG" in message(bytes(range(1, 256)) * 9)


def test_every_stranger_of_the_corpus_with_a_signature_is_named() -> None:
    unnamed = {"one-byte.jpg", "two-bytes.jpg", "noise.jpg"}
    names = {
        file.name
        for file in strangers()
        if not file.name.startswith("magic-only")
        and file.name != "picture.heic"
        and "not an image but" not in message(file.data)
    }
    assert names == unnamed
