"""Images of a caller: paths, bytes and `data:` URLs, with short messages."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from producer.contract import MAX_BLOB_BYTES, ErrorCode
from producer.errors import InvalidInput
from producer.ledger import blobs


def rejection(image: str | bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as raised:
        blobs.read(image)
    return raised.value


def test_a_data_url_is_uploaded_like_its_bytes() -> None:
    data = base64.b64encode(b"bytes of an image").decode()
    assert blobs.read(f"data:image/png;base64,{data}") == b"bytes of an image"
    assert blobs.read(f"DATA:Image/JPEG;base64,{data}") == b"bytes of an image"


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64," + "!" * 100_000,
        "data:image/png;base64,",
        "data:text/html," + "x" * 100_000,
        "data:" + "x" * 100_000,
        "iVBORw0KGgo" * 10_000,
    ],
)
def test_a_long_source_is_not_repeated(url: str) -> None:
    assert len(str(rejection(url))) < 400


def test_a_file_above_the_limit_is_reported_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    with path.open("wb") as file:
        file.truncate(3 * MAX_BLOB_BYTES)
    error = rejection(str(path))
    assert error.code == ErrorCode.IMAGE_TOO_LARGE
    assert f"has {3 * MAX_BLOB_BYTES:,} bytes; the upload limit is {MAX_BLOB_BYTES:,}" in str(error)
