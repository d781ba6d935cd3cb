"""The header `Idempotency-Key`: the same request is the same job."""

from __future__ import annotations

from typing import Any, Final

import httpx
import pytest

from tests.conftest import Finish

from .conftest import Reached

URL: Final = "https://images.example.com/cat.jpg"


def post(http: httpx.Client, key: str, path: str = "/v1/jobs", **fields: Any) -> httpx.Response:
    body = {"task": "caption", "image": URL, **fields}
    if path != "/v1/jobs":
        del body["task"]
    return http.post(path, json=body, headers={"Idempotency-Key": key, "Prefer": "wait=0"})


def test_the_same_request_is_the_same_job(
    http: httpx.Client, gateway: Reached, finish: Finish
) -> None:
    first = post(http, "order 7", metadata={"try": "1"})
    assert first.status_code == 202
    again = post(http, "order 7", metadata={"try": "2"})
    # The metadata of the first request remains.
    assert again.json() == first.json()
    assert post(http, "order 7", path="/v1/caption").json() == first.json()
    finish(f"acme.job.{first.json()['id']}", [{"text": "a cat"}])
    ended = post(http, "order 7")
    assert (ended.status_code, ended.json()["output"]) == (200, {"text": "a cat"})
    for answer in (post(http, "order 8"), post(gateway.client("other"), "order 7")):
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")


def test_a_different_request_with_the_key_is_a_409(http: httpx.Client) -> None:
    assert post(http, "k").status_code == 202
    for fields in ({"prompt": "a"}, {"options": {"max_new_tokens": 5}}, {"image": f"{URL}?2"}):
        answer = post(http, "k", **fields)
        assert (answer.status_code, answer.json()["code"]) == (409, "id_taken")
        assert "Idempotency-Key" in answer.json()["detail"]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_invalid_key_is_a_422(http: httpx.Client, key: str) -> None:
    for path in ("/v1/jobs", "/v1/caption"):
        answer = post(http, key, path=path)
        assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid")


def test_the_key_is_released_when_its_job_is_erased(http: httpx.Client) -> None:
    job_id = post(http, "k2").json()["id"]
    http.delete(f"/v1/jobs/{job_id}", params={"erase": "true"})
    assert post(http, "k2", prompt="a").status_code == 202
