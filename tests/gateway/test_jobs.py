"""Jobs over HTTP: submit, get and cancel."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from typing import Any

import httpx
import pytest
import redis

from producer import Client
from producer.contract import Queue
from producer.ledger.ids import new_id
from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger
from tests.conftest import Finish

from .conftest import Run
from .samples import CAPTION, DESCRIPTION, FILTERED, URL, untimed


def finish_soon(connection: redis.Redis, finish: Finish, job_id: str, text: str) -> None:
    """End a job as soon as it exists."""

    def run() -> None:
        while Ledger(connection).records([job_id]) == [None]:
            pass
        finish(job_id, [{"text": text}])

    threading.Thread(target=run).start()


def test_a_job_is_submitted_and_returns_its_output(http: httpx.Client, finish: Finish) -> None:
    answer = http.post("/v1/jobs", json=CAPTION)
    assert answer.status_code == 202
    at = f"/v1/jobs/{(body := answer.json())['id']}"
    assert answer.headers["Location"] == at
    assert answer.headers["Retry-After"] == "1"
    assert body["urls"] == {"get": at, "cancel": at}
    assert (body["object"], body["task"], body["status"]) == ("job", "caption", "queued")
    assert http.get(at).json() == body
    finish(f"acme.job.{body['id']}", [{"text": "a cat"}])
    done = http.get(at)
    assert "Retry-After" not in done.headers
    assert untimed(done.json()) == untimed(body) | {"status": "done", "output": {"text": "a cat"}}


@pytest.mark.parametrize(
    ("payload", "result", "output"),
    [
        ({"task": "vqa", "image": URL, "question": "what?"}, {"text": "a cat"}, {"text": "a cat"}),
        (
            {"task": "match", "image": URL, "texts": ["a cat"]},
            {
                "text": "a cat",
                "matches": [{"text": "a cat", "probability": 0.9, "cosine": 0.4, "new": 1}],
            },
            {
                "text": "a cat",
                "matches": [{"text": "a cat", "probability": 0.9, "cosine": 0.4}],
            },
        ),
        ({"task": "embed", "text": "a cat"}, {"embedding": [0.6, 0.8]}, {"embedding": [0.6, 0.8]}),
        (
            {"task": "describe", "image": URL, "prompts": ["", "a"], "detail": "low"},
            DESCRIPTION,
            DESCRIPTION | {"unpolished": None, "warning": None},
        ),
        (
            {"task": "capfilt", "image": URL, "texts": ["a cat"], "synthetic_threshold": 0.9},
            FILTERED,
            FILTERED,
        ),
    ],
)
def test_each_task_has_an_output_of_its_own(
    http: httpx.Client,
    finish: Finish,
    payload: dict[str, Any],
    result: dict[str, Any],
    output: dict[str, Any],
) -> None:
    body = http.post("/v1/jobs", json=payload).json()
    finish(f"acme.job.{body['id']}", [result])
    assert http.get(body["urls"]["get"]).json()["output"] == output


def test_the_worker_receives_the_request_unchanged(
    http: httpx.Client, connection: redis.Redis
) -> None:
    turn = {"question": "what is it?", "answer": "a cat"}
    payload = {"task": "chat", "image": URL, "question": "which color?", "history": [turn]}
    more = {"options": {"max_new_tokens": 5, "temperature": 1}, "deadline_s": 60}
    job_id = http.post("/v1/jobs", json=payload | more).json()["id"]
    (record,) = Ledger(connection).records([f"acme.job.{job_id}"])
    assert record is not None
    message = json.loads(record.payload)
    assert message["options"].pop("deadline") > 0
    del payload["task"]
    assert message == {
        "task": "chat",
        "items": [payload],
        "options": {"max_new_tokens": 5, "temperature": 1.0},
    }
    assert record.submitter == "acme"


def test_a_failed_job_has_an_error(http: httpx.Client, finish: Finish) -> None:
    body = http.post("/v1/jobs", json=CAPTION).json()
    error = {"code": "image_unreachable", "message": "404"}
    finish(f"acme.job.{body['id']}", [{"error": error}])
    answer = http.get(body["urls"]["get"])
    assert answer.status_code == 200
    assert untimed(answer.json()) == untimed(body) | {"status": "failed", "error": error}


def test_prefer_wait_returns_the_output(
    http: httpx.Client, connection: redis.Redis, finish: Finish
) -> None:
    job_id = new_id()
    finish_soon(connection, finish, f"acme.job.{job_id}", "a cat")
    answer = http.put(f"/v1/jobs/{job_id}", json=CAPTION, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert answer.headers["Location"] == f"/v1/jobs/{job_id}"
    assert answer.json()["output"] == {"text": "a cat"}


def test_prefer_wait_ends_with_a_location(run_gateway: Run) -> None:
    http = run_gateway(BLIPLINE_GATEWAY_MAX_WAIT_S="1").client()
    answer = http.post("/v1/jobs", json=CAPTION, headers={"Prefer": "respond-async, wait=600"})
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "wait=1"
    looked = http.get(answer.headers["Location"], headers={"Prefer": "wait=0"})
    assert looked.headers["Preference-Applied"] == "wait=0"


@pytest.mark.parametrize("prefer", ["wait", "wait=", "wait=soon", "wait=-1", 'wait="', ",;=", "²"])
def test_invalid_preferences_are_ignored(http: httpx.Client, prefer: str) -> None:
    answer = http.post("/v1/jobs", json=CAPTION, headers={b"Prefer": prefer.encode()})
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers


def test_the_same_request_under_the_same_id_is_one_job(
    http: httpx.Client, client: Client, finish: Finish
) -> None:
    at = f"/v1/jobs/{new_id()}"
    first = http.put(at, json=CAPTION | {"deadline_s": 60})
    again = http.put(at, json=CAPTION | {"deadline_s": 50})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert client.depth().items[Queue.INTERACTIVE] == 1
    finish(f"acme.job.{first.json()['id']}", [{"text": "a cat"}])
    after = http.put(at, json=CAPTION)
    assert after.status_code == 200
    assert after.json()["output"] == {"text": "a cat"}


@pytest.mark.parametrize(
    "different",
    [
        {"task": "vqa", "image": URL, "question": "what?"},
        CAPTION | {"prompt": "a"},
        CAPTION | {"options": {"seed": 1}},
    ],
)
def test_a_different_job_under_the_same_id_is_rejected(
    http: httpx.Client, different: dict[str, Any]
) -> None:
    job_id = new_id()
    http.put(f"/v1/jobs/{job_id}", json=CAPTION)
    answer = http.put(f"/v1/jobs/{job_id}", json=different)
    assert answer.status_code == 409
    assert answer.json()["code"] == "id_taken"
    assert job_id in answer.json()["detail"]
    # Inner ids are not disclosed.
    assert "acme" not in answer.text


def test_a_job_can_contain_the_bytes_of_its_image(
    http: httpx.Client, connection: redis.Redis
) -> None:
    data = b"the bytes of an image" * 50_000
    image = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    body = http.post("/v1/jobs", json=CAPTION | {"image": image}).json()
    (record,) = Ledger(connection).records([f"acme.job.{body['id']}"])
    assert record is not None
    (sha,) = record.blobs
    assert sha == hashlib.sha256(data).hexdigest()
    assert connection.get(Keys().blob(sha)) == data


def test_a_cancelled_job_stays_cancelled(http: httpx.Client) -> None:
    body = http.post("/v1/jobs", json=CAPTION).json()
    for _ in range(2):
        answer = http.delete(body["urls"]["cancel"])
        assert answer.status_code == 200
        assert answer.json()["error"]["code"] == "cancelled"
        assert untimed(answer.json()) | {"error": None} == untimed(body) | {"status": "cancelled"}
    assert http.get(body["urls"]["get"]).json()["status"] == "cancelled"


def test_a_job_that_has_ended_is_not_cancelled(http: httpx.Client, finish: Finish) -> None:
    body = http.post("/v1/jobs", json=CAPTION).json()
    finish(f"acme.job.{body['id']}", [{"text": "a cat"}])
    assert http.delete(body["urls"]["cancel"]).json()["status"] == "done"


def test_a_job_without_a_stored_result_has_expired(
    http: httpx.Client, connection: redis.Redis, finish: Finish
) -> None:
    body = http.post("/v1/jobs", json=CAPTION).json()
    job_id = f"acme.job.{body['id']}"
    finish(job_id, [{"text": "a cat"}])
    connection.delete(Keys().result(job_id))
    assert http.get(body["urls"]["get"]).json() == body | {"status": "expired"}


def test_an_unknown_job_is_not_found(http: httpx.Client) -> None:
    for method in ("GET", "HEAD", "DELETE"):
        assert http.request(method, f"/v1/jobs/{new_id()}").status_code == 404


def test_a_job_of_another_program_is_not_found(http: httpx.Client, client: Client) -> None:
    client.submit({"image": URL}, job_id="acme.job.foreign")
    assert http.get("/v1/jobs/foreign").status_code == 404


def test_head_returns_the_headers_of_get(http: httpx.Client) -> None:
    at = http.post("/v1/jobs", json=CAPTION).headers["Location"]
    head, get = http.head(at), http.get(at)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


@pytest.mark.parametrize("job_id", ["a b", "a:0", "ä", "x" * 65])
def test_an_invalid_client_id_is_rejected(http: httpx.Client, job_id: str) -> None:
    answer = http.put(f"/v1/jobs/{job_id}", json=CAPTION)
    assert answer.status_code == 422
    assert "id" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({}, "task: is missing"),
        (
            {"task": "ask", "image": URL},
            "match, embed, describe, capfilt",
        ),
        ({"task": "caption"}, "image: is missing"),
        (CAPTION | {"colour": "red"}, "colour: no such name"),
        (CAPTION | {"question": "what?"}, "question: no such name"),
        (CAPTION | {f"n{n}": 0 for n in range(11)}, "n9: no such name; and 1 more"),
        (CAPTION | {f"n{n}": 0 for n in range(50_000)}, "The job has 50,000 errors"),
        (CAPTION | {"options": {"deadline": 1e10}}, "options.deadline: no such name"),
        (CAPTION | {"options": {"top_k": "1"}}, "options.top_k='1'"),
        (CAPTION | {"options": {"temperature": 0.001}}, "at least 0.01"),
        (CAPTION | {"deadline_s": 0}, "deadline_s=0"),
        (CAPTION | {"deadline_s": 1e9}, "deadline_s=1000000000.0"),
        ({"task": "vqa", "image": URL, "question": " "}, "question=' ': is empty"),
        ({"task": "vqa", "image": URL, "question": "x" * 20_001}, "at most 20000 characters"),
        ({"task": "match", "image": URL, "texts": []}, "texts=[]"),
        ({"task": "match", "image": URL, "texts": ["x" * 1000] * 201}, "200,000"),
        ({"task": "match", "image": URL, "texts": ["x"], "options": {}}, "options: no such name"),
        ({"task": "embed"}, "pass one of them"),
        ({"task": "describe", "image": URL, "prompts": []}, "prompts"),
        ({"task": "capfilt", "image": URL}, "texts: is missing"),
        ({"task": "capfilt", "image": URL, "texts": ["a"], "captions": 17}, "captions"),
        ({"task": "capfilt", "image": URL, "texts": ["a"], "threshold": 1.1}, "threshold"),
        ({"task": "describe", "image": URL, "detail": "huge"}, "detail"),
        ({"task": "embed", "image": URL, "text": "a"}, "pass one of them"),
        ({"task": "embed", "text": "\n"}, "is empty"),
        (CAPTION | {"image": "/etc/passwd"}, "is not an image reference"),
        (CAPTION | {"image": "data:image/png;base64,%"}, "not valid base64"),
        ([], "an object"),
    ],
)
def test_an_invalid_job_names_its_errors(http: httpx.Client, payload: Any, expected: str) -> None:
    answer = http.post("/v1/jobs", json=payload)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert expected in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"task": "caption", "image": "\xc3\x28"}',
        b'{"task": "vqa", "image": "https://a/", "question": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"task": "caption", "image": "https://a/", "deadline_s": ' + b"9" * 5000 + b"}",
        b'{"task": "caption", "image": "https://a/", "image": "https://b/"}',
        b'{"task": "caption", "image": "https://a/", "options": {"seed": 1, "seed": 1}}',
    ],
    ids=range(10),
)
def test_invalid_json_is_a_bad_request(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_request"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400])
def test_non_finite_numbers_are_rejected(http: httpx.Client, number: str) -> None:
    body = f'{{"task": "caption", "image": "https://a/", "deadline_s": {number}}}'
    answer = http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "deadline_s" in answer.json()["detail"]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "½"])
def test_a_body_of_another_type_is_rejected(http: httpx.Client, kind: str | None) -> None:
    headers = {} if kind is None else {b"Content-Type": kind.encode()}
    answer = http.post("/v1/jobs", content=b"{}", headers=headers)
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


def test_a_compressed_body_is_rejected(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", json=CAPTION, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_rejected(run_gateway: Run, chunked: bool) -> None:
    http = run_gateway(BLIPLINE_GATEWAY_MAX_IMAGE_MB="1").client()
    body = json.dumps(CAPTION | {"prompt": "x" * 3 * 2**20}).encode()
    content = iter([body]) if chunked else body
    answer = http.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


@pytest.mark.parametrize(
    "extra",
    [
        {"prompt": "x" * 2**20},
        {"x": [[]] * 2**19},
        {"prompt": "data:" + "x" * 2**20, "x": "y" * 2**20},
    ],
    ids=range(3),
)
def test_a_job_without_its_image_has_a_size_limit(
    http: httpx.Client, extra: dict[str, Any]
) -> None:
    image = "data:image/png;base64," + "A" * 2**21
    assert http.post("/v1/jobs", json=CAPTION | {"image": image}).status_code == 202
    answer = http.post("/v1/jobs", json=CAPTION | {"image": image} | extra)
    assert answer.status_code == 413
    assert "in addition to" in answer.json()["detail"]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://backend.example.com/",
        "backend.example.com/hook",
        "https://",
        "https://user:secret@backend.example.com/",
        "https://backend.example.com:99999/",
        "https://backend.example.com:0/",
        "https://[::1/",
        "https://bäckend.example.com/",
        "https://backend.example.com/a b",
        "https://backend.example.com/\n",
        "https://backend.example.com\\@evil.example.com/",
        "https://backend.example.com/" + "x" * 2048,
    ],
)
def test_an_invalid_webhook_url_is_rejected(http: httpx.Client, url: str) -> None:
    answer = http.post("/v1/jobs", json=CAPTION | {"webhook": url})
    assert answer.status_code == 422
    assert "webhook" in answer.json()["detail"]
    assert "secret" not in answer.text


def test_the_webhook_of_a_job_is_stored(http: httpx.Client, connection: redis.Redis) -> None:
    hook = "https://backend.example.com/hook?for=7"
    body = http.post("/v1/jobs", json=CAPTION | {"webhook": hook}).json()
    assert connection.hget(Keys().metadata(f"acme.job.{body['id']}"), "webhook") == hook.encode()


def test_a_full_queue_answers_with_retry_after(run_gateway: Run) -> None:
    http = run_gateway(BLIPLINE_MAX_QUEUED_INTERACTIVE="1").client()
    assert http.post("/v1/jobs", json=CAPTION).status_code == 202
    answer = http.post("/v1/jobs", json=CAPTION)
    assert answer.status_code == 429
    assert answer.json()["code"] == "queue_full"
    assert re.fullmatch("[1-9][0-9]*", answer.headers["Retry-After"])
