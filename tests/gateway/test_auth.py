"""Who is let in, and how often, by the gateway as it runs."""

from __future__ import annotations

import socket

import httpx
import pytest

from producer.gateway.auth import needs_api_key

from .conftest import Reached

WRONG = f"blip_{'0' * 12}_{'0' * 48}"
#: A path that needs a key and touches Redis.
GUARDED = "/v1/queues"


@pytest.mark.parametrize("path", ["/v1", "/v1/", GUARDED, "/v1/jobs/x", "/v1/nothing", "/v1/%00"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"])
def test_nothing_below_v1_is_answered_without_a_key(
    gateway: Reached, method: str, path: str
) -> None:
    answer = gateway.client(None).request(method, path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Basic YTpi", WRONG, "Token " + WRONG, "Bearer\t" + WRONG, "Bearer,"],
)
def test_a_malformed_header_is_told_what_is_needed(gateway: Reached, header: str) -> None:
    answer = gateway.client(None).get(GUARDED, headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer" in answer.json()["detail"]


def test_two_keys_in_one_request_are_none(gateway: Reached) -> None:
    headers = [("Authorization", f"Bearer {gateway.keys[name]}") for name in ("acme", "other")]
    assert gateway.client(None).get(GUARDED, headers=headers).status_code == 401


@pytest.mark.parametrize("key", [WRONG, "sk-123", "blip_x_y", "é", "a" * 5000, "b b"])
def test_a_wrong_key_is_told_that_it_is_wrong(gateway: Reached, key: str) -> None:
    raw = f"Bearer {key}".encode()
    answer = gateway.client(None).get(GUARDED, headers={b"Authorization": raw})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert answer.json()["code"] == "unauthorized"
    assert key not in answer.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_the_scheme_may_be_written_in_any_case(gateway: Reached, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {gateway.keys['acme']}"}
    assert gateway.client(None).get(GUARDED, headers=headers).status_code == 200


def test_who_has_no_key_is_told_before_the_body_is_sent(gateway: Reached) -> None:
    url = httpx.URL(gateway.url)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("path", ["/", "/healthz", "/v10/x", "/ui/v1", "/openapi.json"])
def test_the_rest_needs_no_key(path: str) -> None:
    assert not needs_api_key(path)
