"""Image uploads over HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx
import pytest
import redis

from producer.ledger.keys import Keys

from .conftest import Run

DATA = b"\x89PNG the bytes of an image"
SHA = hashlib.sha256(DATA).hexdigest()


def form(*parts: tuple[str, bytes], end: bytes = b"--x--\r\n") -> dict[str, object]:
    """Return a request with a multipart body."""
    disposition = 'Content-Disposition: form-data; name="{}"; filename="cat.png"\r\n\r\n'
    body = b"".join(
        b"--x\r\n" + disposition.format(name).encode() + data + b"\r\n" for name, data in parts
    )
    return {
        "content": body + end,
        "headers": {"Content-Type": "multipart/form-data; boundary=x"},
    }


@pytest.mark.parametrize(
    "request_",
    [
        {"content": DATA, "headers": {"Content-Type": "image/png"}},
        {"content": DATA, "headers": {"Content-Type": "Image/X-Other; a=b"}},
        {"content": DATA, "headers": {"Content-Type": "application/octet-stream"}},
        {"content": DATA},
        # The default of curl.
        {"content": DATA, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"files": {"file": ("cat.png", DATA, "image/png")}},
        {"files": {"file": ("cat.png", DATA)}, "data": {"note": "before it"}},
        {"files": [("file", ("cat.png", DATA)), ("note", (None, b"after it"))]},
    ],
)
def test_an_upload_is_stored_under_its_hash(
    http: httpx.Client, connection: redis.Redis, request_: dict[str, object]
) -> None:
    answer = http.post("/v1/images", **request_)  # type: ignore[arg-type]
    assert answer.status_code == 201
    assert answer.json() == {"image": f"blob:{SHA}", "bytes": len(DATA), "expires_in_s": 3600}
    assert connection.get(Keys().blob(SHA)) == DATA


def test_a_job_can_reference_an_uploaded_image(http: httpx.Client) -> None:
    image = http.post("/v1/images", content=DATA).json()["image"]
    assert http.post("/v1/jobs", json={"task": "caption", "image": image}).status_code == 202


@pytest.mark.parametrize("kind", ["text/html", "application/json", "imagepng"])
def test_an_upload_of_another_type_is_rejected(http: httpx.Client, kind: str) -> None:
    answer = http.post("/v1/images", content=DATA, headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert kind in answer.json()["detail"]


def test_a_compressed_upload_is_rejected(http: httpx.Client) -> None:
    answer = http.post("/v1/images", content=DATA, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415


@pytest.mark.parametrize("request_", [{"content": b""}, form(("file", b""))])
def test_an_empty_upload_is_rejected(http: httpx.Client, request_: dict[str, object]) -> None:
    answer = http.post("/v1/images", **request_)  # type: ignore[arg-type]
    assert answer.status_code == 422
    assert answer.json()["code"] == "image_invalid"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (form(("image", DATA)), 422),
        (form(("file", DATA), ("file", DATA)), 422),
        (form(), 422),
        (form(("file", DATA), end=b""), 400),
        (form(end=b"nonsense"), 400),
        (form(end=b""), 400),
        ({"content": DATA, "headers": {"Content-Type": "multipart/form-data"}}, 400),
    ],
    ids=range(7),
)
def test_an_invalid_form_is_rejected(
    http: httpx.Client, request_: dict[str, object], status: int
) -> None:
    answer = http.post("/v1/images", **request_)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_the_size_of_an_upload_is_limited(run_gateway: Run) -> None:
    http = run_gateway(BLIPLINE_GATEWAY_MAX_IMAGE_MB="1").client()
    largest = b"x" * 2**20

    def streamed(data: bytes) -> Iterator[bytes]:
        yield data

    assert http.post("/v1/images", content=largest).status_code == 201
    assert http.post("/v1/images", files={"file": largest}).status_code == 201
    for request in (
        {"content": largest + b"x"},
        {"content": streamed(largest + b"x")},
        {"files": {"file": largest + b"x"}},
        {"files": {"file": largest * 2}},
    ):
        answer = http.post("/v1/images", **request)
        assert answer.status_code == 413
        assert answer.json()["code"] in ("image_too_large", "body_too_large")


def test_an_upload_is_rejected_while_the_image_store_is_full(run_gateway: Run) -> None:
    http = run_gateway(BLIPLINE_MAX_QUEUED_INTERACTIVE="1").client()
    http.post("/v1/jobs", json={"task": "embed", "text": "a cat"})
    answer = http.post("/v1/images", content=DATA)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
