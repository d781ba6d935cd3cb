"""API key authentication of a running gateway."""

from __future__ import annotations

import socket

import httpx
import pytest

from producer.gateway.access.auth import needs_api_key

from .conftest import Reached

INVALID = f"blip_{'0' * 12}_{'0' * 48}"
#: A path that needs a key and reads Redis.
PROTECTED = "/v1/queues"


@pytest.mark.parametrize("path", ["/v1", "/v1/", PROTECTED, "/v1/jobs/x", "/v1/nothing", "/v1/%00"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"])
def test_every_path_below_v1_needs_a_key(gateway: Reached, method: str, path: str) -> None:
    answer = gateway.client(None).request(method, path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Basic YTpi", INVALID, "Token " + INVALID, "Bearer\t" + INVALID, "Bearer,"],
)
def test_a_malformed_authorization_header_is_explained(gateway: Reached, header: str) -> None:
    answer = gateway.client(None).get(PROTECTED, headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer" in answer.json()["detail"]


def test_two_keys_in_one_request_are_rejected(gateway: Reached) -> None:
    headers = [("Authorization", f"Bearer {gateway.keys[name]}") for name in ("acme", "other")]
    assert gateway.client(None).get(PROTECTED, headers=headers).status_code == 401


@pytest.mark.parametrize("key", [INVALID, "sk-123", "blip_x_y", "é", "a" * 5000, "b b"])
def test_an_invalid_key_is_reported(gateway: Reached, key: str) -> None:
    raw = f"Bearer {key}".encode()
    answer = gateway.client(None).get(PROTECTED, headers={b"Authorization": raw})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert answer.json()["code"] == "unauthorized"
    assert key not in answer.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_the_scheme_is_case_insensitive(gateway: Reached, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {gateway.keys['acme']}"}
    assert gateway.client(None).get(PROTECTED, headers=headers).status_code == 200


def test_a_request_without_a_key_is_rejected_before_its_body(gateway: Reached) -> None:
    url = httpx.URL(gateway.url)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("path", ["/", "/healthz", "/v10/x", "/ui/v1", "/openapi.json"])
def test_other_paths_need_no_key(path: str) -> None:
    assert not needs_api_key(path)
