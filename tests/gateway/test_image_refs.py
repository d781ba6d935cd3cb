"""Image references over HTTP: no file of the gateway is ever read."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from producer import InvalidInput
from producer.gateway.access.image_access import NO_PRIVATE_IMAGES
from producer.gateway.images.image_refs import resolve, resolve_item
from producer.ledger import blobs

SHA = "0a" * 32
LIMIT = 1000


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    "reference",
    [
        "https://images.example.com/cat.jpg",
        "HTTP://images.example.com/cat.jpg",
        "s3://bucket/cat.jpg",
        f"blob:{SHA}",
        # The worker resolves these below its own root, or rejects them.
        "file:cat.jpg",
        "file:///etc/passwd",
        "file:../../etc/passwd",
        "nonsense://x",
    ],
)
def test_a_reference_is_unchanged(reference: str) -> None:
    assert resolve(reference, LIMIT) == reference
    # The submission does not change it either.
    assert blobs.read(reference) == reference


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "etc/passwd",
        "../../etc/passwd",
        "~/.ssh/id_rsa",
        "./cat.jpg",
        "cat.jpg",
        "",
        " ",
        " https://images.example.com/cat.jpg",
        "\nfile:///etc/passwd",
        "\0file:cat.jpg",
        "C:\\cat.jpg",
        "\\\\server\\cat.jpg",
        "//server/cat.jpg",
        "https:/images.example.com",
        "mailto:cat@example.com",
        "blob:",
        "blob:../../etc/passwd",
        f"blob:{SHA.upper()}",
        f"BLOB:{SHA}",
        f"blob:{SHA}0",
        f"blob:{SHA}\n",
        "https://images.example.com/" + "x" * 8192,
    ],
)
def test_an_invalid_reference_is_rejected(path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolve(path, LIMIT)
    assert caught.value.code == "image_invalid"


@pytest.mark.parametrize("image", [b"bytes", Path("/etc/passwd"), 7, None, ["a"], {"a": 1}, True])
def test_an_image_must_be_a_string(image: Any) -> None:
    with pytest.raises(InvalidInput, match="must be a string"):
        resolve(image, LIMIT)


def test_no_file_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Given a file at a relative and an absolute path
    (tmp_path / "cat.jpg").write_bytes(b"secret")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    for path in ("cat.jpg", f"{tmp_path}/cat.jpg", "~/cat.jpg", "file:cat.jpg", "file:~/cat.jpg"):
        # Then it is rejected or unchanged, and never read
        item = resolve_item({"image": path}, LIMIT)
        assert item.get("image", path) == path


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/JPEG", "image/svg+xml"])
def test_a_data_url_contains_the_bytes(kind: str) -> None:
    assert resolve(data_url(b"x" * LIMIT, kind), LIMIT) == b"x" * LIMIT


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) + b"\xfb\xef\xff" * 9 + b"\0"
ENCODED = base64.b64encode(PNG).decode()
#: The forms in which programs write base64.
BASE64_FORMS = {
    "plain": ENCODED,
    "wrapped": base64.encodebytes(PNG).decode(),
    "wrapped with CRLF and indentation": ENCODED[:76] + "\r\n\t  " + ENCODED[76:],
    "unpadded": ENCODED.rstrip("="),
    "URL-safe": base64.urlsafe_b64encode(PNG).decode(),
    "URL-safe and unpadded": base64.urlsafe_b64encode(PNG).decode().rstrip("="),
    "surrounded by space": f" \n{ENCODED}\n",
}


@pytest.mark.parametrize("encoded", BASE64_FORMS.values(), ids=BASE64_FORMS)
def test_base64_is_an_image_in_each_of_its_forms(encoded: str) -> None:
    assert ENCODED.endswith("=")
    assert {"+", "/"} <= set(ENCODED)
    assert resolve(encoded, LIMIT) == PNG
    for head in ("data:image/png;base64,", "DATA:image/png;name=cat.png;charset=utf-8;BASE64,"):
        assert resolve(head + encoded, LIMIT) == PNG
        assert resolve(head + quote(encoded, safe=""), LIMIT) == PNG


def test_a_data_url_without_base64_contains_percent_encoded_bytes() -> None:
    assert resolve(f"data:image/png,{quote(PNG)}", LIMIT) == PNG
    assert resolve("data:image/png;name=a.png,a+b", LIMIT) == b"a+b"


@pytest.mark.parametrize(
    "start",
    [
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"RIFF\x10\0\0\0WEBP",
        b"BM\x10",
        b"II*\0",
        b"MM\0*",
        b"\0\0\0\x18ftypheic",
        b"\0\0\0\x0cjP  \r\n",
    ],
)
def test_base64_of_every_image_format_is_recognised(start: bytes) -> None:
    data = start + b"\0" * 60
    assert resolve(base64.b64encode(data).decode(), LIMIT) == data


@pytest.mark.parametrize(
    ("encoded", "code", "message"),
    [
        (base64.b64encode(PNG * 9).decode(), "image_too_large", "1,000 bytes"),
        (ENCODED[:100] + "!", "image_invalid", "not valid base64"),
        (ENCODED[:100] + " " + ENCODED[100:], "image_invalid", "%2B"),
        (base64.b64encode(b"no image, but text").decode(), "image_invalid", "base64"),
        ("A" * 9000, "image_invalid", "neither a data: URL nor"),
    ],
)
def test_invalid_base64_is_rejected(encoded: str, code: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        resolve(encoded, LIMIT)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("url", "code"),
    [
        (data_url(b"x" * (LIMIT + 1)), "image_too_large"),
        (data_url(b"x" * (LIMIT * 9)), "image_too_large"),
        (data_url(b""), "image_invalid"),
        (data_url(b"x", "text/html"), "image_invalid"),
        (data_url(b"x", ""), "image_invalid"),
        ("data:image/png,", "image_invalid"),
        ("data:image/png," + "%ff" * (LIMIT + 1), "image_too_large"),
        ("data:", "image_invalid"),
        ("data://x", "image_invalid"),
        ("data:image/png;base64,eA===", "image_invalid"),
        ("data:image/png;base64", "image_invalid"),
        ("data:image/png" + ";a" * 9 + ";base64,eA==", "image_invalid"),
        ("data:image/png;base64,e", "image_invalid"),
        ("data:image/png;base64,e A==", "image_invalid"),
        ("data:image/png;base64,eA==eA==", "image_invalid"),
        ("data:image/png;base64,e%41%3d%3d%3d", "image_invalid"),
        ("data:image/png;base64,e%zz", "image_invalid"),
        ("data:image/png;base64,äöü=", "image_invalid"),
    ],
)
def test_an_invalid_data_url_is_rejected(url: str, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolve(url, LIMIT)
    assert caught.value.code == code


def test_an_invalid_image_becomes_an_error_of_its_item() -> None:
    item = resolve_item({"custom_id": "7", "image": "/etc/passwd", "question": "what?"}, LIMIT)
    assert item["custom_id"] == "7"
    assert item["error"]["code"] == "image_invalid"
    assert "image" not in item


@pytest.mark.parametrize(
    ("image", "is_private"),
    [
        ("file:cat.jpg", True),
        ("FILE:/cat.jpg", True),
        ("s3://bucket/cat.jpg", True),
        ("gs://bucket/cat.jpg", True),
        ("memory://cat.jpg", True),
        ("https://images.example.com/cat.jpg", False),
        ("HTTP://images.example.com/cat.jpg", False),
        (f"blob:{SHA}", False),
        (data_url(b"x"), False),
    ],
)
def test_private_images_can_be_denied(image: str, is_private: bool) -> None:
    resolve(image, LIMIT)
    assert "error" not in resolve_item({"image": image}, LIMIT)
    item = resolve_item({"image": image}, LIMIT, NO_PRIVATE_IMAGES)
    assert ("error" in item) == is_private
    if is_private:
        assert item["error"]["code"] == "image_blocked"
        assert "not allowed for this API key" in item["error"]["message"]


def test_an_item_without_an_image_is_unchanged() -> None:
    assert resolve_item({"text": "a cat"}, LIMIT) == {"text": "a cat"}
    error = {"code": "option_invalid", "message": "line 3: not JSON"}
    assert resolve_item({"error": error, "image": "/etc/passwd"}, LIMIT) == {"error": error}


def test_an_item_with_a_data_url_contains_the_bytes() -> None:
    assert resolve_item({"image": data_url(b"x")}, LIMIT) == {"image": b"x"}
