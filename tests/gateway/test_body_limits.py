"""Bodies that are too large, whatever they say of themselves."""

from __future__ import annotations

from collections.abc import Iterator

from .conftest import Start
from .raw import talk


def test_a_body_that_says_it_is_too_large_is_refused_at_once(start_gateway: Start) -> None:
    own = start_gateway(BLIPLINE_GATEWAY_MAX_IMAGE_MB="1", BLIPLINE_GATEWAY_MAX_BODY_MB="1")
    for path in ("/v1/jobs", "/v1/images", "/v1/batches"):
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {2**30}\r\n"
            f"Authorization: Bearer {own.keys['acme']}\r\n\r\n"
        )
        answer = talk(own.url, head.encode())
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'"body_too_large"' in answer


def test_a_body_that_grows_too_large_is_cut_off(start_gateway: Start) -> None:
    own = start_gateway(BLIPLINE_GATEWAY_MAX_IMAGE_MB="1")

    def body() -> Iterator[bytes]:
        yield b'{"task": "caption", "image": "'
        for _ in range(4):
            yield b"x" * 2**20

    answer = own.client().post(
        "/v1/jobs", content=body(), headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
