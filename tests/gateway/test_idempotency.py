"""The header `Idempotency-Key`: the same request is the same job or batch."""

from __future__ import annotations

from typing import Any, Final

import httpx
import pytest
import redis

from tests.conftest import Finish

from .conftest import Reached
from .samples import JSONL, batches_in, body_of

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


def upload(http: httpx.Client, key: str, lines: int, query: str = "") -> httpx.Response:
    headers = {**JSONL, "Idempotency-Key": key}
    return http.post(f"/v1/batches{query}", content=body_of(lines), headers=headers)


def test_the_same_upload_is_the_same_batch(http: httpx.Client, gateway: Reached) -> None:
    first = upload(http, "order 7", 3)
    assert (first.status_code, first.json()["request_counts"]["total"]) == (202, 3)
    again = upload(http, "order 7", 3)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.json()["request_counts"] == first.json()["request_counts"]
    assert upload(http, "order 8", 3).json()["id"] != first.json()["id"]
    # Another name's key is another batch, so its lines may differ.
    assert upload(gateway.client("other"), "order 7", 2).status_code == 202


@pytest.mark.parametrize(("lines", "query"), [(2, ""), (4, ""), (3, "?task=vqa")])
def test_a_different_upload_with_the_key_is_a_409(
    http: httpx.Client, lines: int, query: str
) -> None:
    assert upload(http, "k", 3).status_code == 202
    answer = upload(http, "k", lines, query)
    assert (answer.status_code, answer.json()["code"]) == (409, "id_taken")
    assert "Idempotency-Key" in answer.json()["detail"]


def test_an_id_takes_precedence_over_the_key_of_an_upload(http: httpx.Client) -> None:
    answer = upload(http, "k", 1, "?id=mine")
    assert (answer.status_code, answer.json()["id"]) == (202, "mine")


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_upload_with_an_invalid_key_creates_no_batch(
    http: httpx.Client, connection: redis.Redis, key: str
) -> None:
    answer = upload(http, key, 1)
    assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid")
    assert "Idempotency-Key" in answer.json()["detail"]
    assert batches_in(connection) == []
