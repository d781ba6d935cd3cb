"""Quotas of stored bytes and owners of images, over HTTP."""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import Any

import httpx
import pytest
import redis

from producer.ledger.keys import Keys

from .conftest import Reached, Run
from .samples import CAPTION, JSONL

PICTURE = b"\x89PNG a picture of acme"
REFERENCE = f"blob:{hashlib.sha256(PICTURE).hexdigest()}"
UNKNOWN = f"blob:{hashlib.sha256(b'never uploaded').hexdigest()}"
JOBS: list[dict[str, Any]] = [
    {"task": "caption"},
    {"task": "vqa", "question": "what is it?"},
    {"task": "chat", "question": "what is it?", "history": []},
    {"task": "match", "texts": ["a cat"]},
    {"task": "embed"},
]


def check_quota_problem(answer: httpx.Response) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (429, "quota_exceeded"), problem
    assert "(BLIPLINE_GATEWAY_QUOTA_MB): delete batches" in problem["detail"]
    assert int(answer.headers["Retry-After"]) > 0


def test_uploads_that_no_job_names_are_bounded_for_each_name(
    run_gateway: Run, connection: redis.Redis
) -> None:
    gateway = run_gateway(BLIPLINE_GATEWAY_QUOTA_MB="2")
    http = gateway.client()
    answers = [http.post("/v1/images", content=bytes([n]) * 2**18) for n in range(12)]
    stored = [answer for answer in answers if answer.status_code == 201]
    assert len(stored) == 7
    for answer in answers[7:]:
        check_quota_problem(answer)
    assert connection.info("memory")["used_memory_dataset"] < 6 * 2**20
    # Another name has its own quota, and what is stored already can be used.
    assert gateway.client("other").post("/v1/images", content=PICTURE).status_code == 201
    image = stored[0].json()["image"]
    assert http.post("/v1/jobs", json={**CAPTION, "image": image}).status_code == 202


def test_the_lines_of_a_batch_are_bounded_before_they_are_run(run_gateway: Run) -> None:
    gateway = run_gateway(BLIPLINE_GATEWAY_QUOTA_MB="1", BLIPLINE_GATEWAY_UPLOAD_WAIT_S="0")
    http, line = gateway.client(), json.dumps({"text": "x" * 10_000}).encode()
    body = gzip.compress(b"\n".join([line] * 500))
    params = {"id": "large", "task": "embed", "keep_s": str(366 * 86400)}
    headers = {**JSONL, "Content-Encoding": "gzip"}
    answer = http.post("/v1/batches", params=params, content=body, headers=headers)
    assert answer.status_code == 429
    assert "BLIPLINE_GATEWAY_QUOTA_MB" in answer.json()["detail"]
    check_quota_problem(http.post("/v1/images", content=b"x" * 600_000))
    assert gateway.client("other").post("/v1/jobs", json=CAPTION).status_code == 202
    # The remedy that the problem names.
    assert http.delete("/v1/batches/large").status_code == 204
    assert http.post("/v1/jobs", json=CAPTION).status_code == 202


@pytest.mark.parametrize("job", JOBS, ids=lambda job: str(job["task"]))
def test_the_hash_of_another_name_s_image_is_of_no_use(
    gateway: Reached, connection: Any, job: dict[str, Any]
) -> None:
    assert gateway.client().post("/v1/images", content=PICTURE).status_code == 201
    http = gateway.client("other")
    # The same answer as for an image that nobody uploaded, whatever the way.
    for reference in (REFERENCE, UNKNOWN):
        body = {**job, "image": reference}
        for answer in (http.post("/v1/jobs", json=body), http.put("/v1/jobs/mine", json=body)):
            assert (answer.status_code, answer.json()["code"]) == (422, "image_unreachable")
            assert answer.json()["detail"].replace(reference, "") == (
                "image: : you have not uploaded it, or it has expired: upload it"
            )
        batch = f"of-{job['task']}-{reference[-4:]}"
        lines = json.dumps({**body, "custom_id": "1"}).encode()
        answer = http.post("/v1/batches", params={"id": batch}, content=lines, headers=JSONL)
        assert answer.status_code == 202
        (record,) = (connection.get(key) for key in connection.scan_iter(f"*job:*{batch}:0"))
        (item,) = json.loads(record.split(b"\n", 2)[2])["items"]
        assert "image" not in item
        assert item["error"]["code"] == "image_unreachable"
    # Uploading it is the proof.
    assert http.post("/v1/images", content=PICTURE).json()["image"] == REFERENCE
    assert http.post("/v1/jobs", json={**job, "image": REFERENCE}).status_code == 202
    assert connection.strlen(Keys().blob(REFERENCE)) == len(PICTURE)


def test_no_request_reveals_whether_an_image_exists(gateway: Reached) -> None:
    assert gateway.client().post("/v1/images", content=PICTURE).status_code == 201
    http = gateway.client("other")
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        for name in ("", "blob:", "../images/"):
            answers = {
                http.request(method, f"/v1/images/{name}{reference[5:]}").status_code
                for reference in (REFERENCE, UNKNOWN)
            }
            assert answers == {404}


def test_an_image_within_a_request_belongs_to_its_sender(gateway: Reached) -> None:
    data = "data:image/png;base64,AAAA"
    reference = f"blob:{hashlib.sha256(bytes(3)).hexdigest()}"
    answer = gateway.client().post("/v1/jobs", json={**CAPTION, "image": data})
    assert answer.status_code == 202
    for name, status in (("acme", 202), ("other", 422)):
        answer = gateway.client(name).post("/v1/jobs", json={**CAPTION, "image": reference})
        assert answer.status_code == status
