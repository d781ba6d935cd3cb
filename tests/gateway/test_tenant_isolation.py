"""Isolation of tenants: no access to jobs and batches of another name."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from producer.ledger.ids import new_id
from tests.conftest import Finish

from .conftest import Reached
from .samples import CAPTION

#: All operations on an existing job or batch.
OPERATIONS = [
    ("GET", "/v1/jobs/{id}"),
    ("HEAD", "/v1/jobs/{id}"),
    ("GET", "/v1/jobs/{id}/events"),
    ("DELETE", "/v1/jobs/{id}"),
    ("GET", "/v1/batches/{id}"),
    ("HEAD", "/v1/batches/{id}"),
    ("GET", "/v1/batches/{id}/results"),
    ("GET", "/v1/batches/{id}/errors"),
    ("GET", "/v1/batches/{id}/events"),
    ("POST", "/v1/batches/{id}/cancel"),
    ("POST", "/v1/batches/{id}/retry"),
    ("DELETE", "/v1/batches/{id}"),
]


@pytest.fixture
def ids(gateway: Reached, finish: Finish) -> Iterator[dict[str, str]]:
    """Yield an ended job and batch of acme; check that they remain unchanged."""
    http = gateway.client("acme")
    job_id, batch_id = new_id(), new_id()
    assert http.put(f"/v1/jobs/{job_id}", json=CAPTION).status_code == 202
    finish(f"acme.job.{job_id}", [{"text": "a secret"}])
    line = b'{"image": "https://images.example.com/cat.jpg"}\n'
    headers = {"Content-Type": "application/jsonl"}
    answer = http.post("/v1/batches", params={"id": batch_id}, content=line, headers=headers)
    assert answer.status_code == 202
    finish(f"acme.batch.{batch_id}:0", [{"text": "a secret"}])
    job, batch = http.get(f"/v1/jobs/{job_id}"), http.get(f"/v1/batches/{batch_id}")
    assert (job.json()["status"], batch.json()["status"]) == ("done", "done")
    yield {"job": job_id, "batch": batch_id}
    assert http.get(f"/v1/jobs/{job_id}").json() == job.json()
    assert http.get(f"/v1/batches/{batch_id}").json() == batch.json()


def disguise(public_id: str, kind: str) -> list[str]:
    """Return spellings of the id that might resolve to a job or batch of acme."""
    inner = f"acme.{kind}.{public_id}"
    return [
        public_id,
        inner,
        f"{inner}:0",
        f".{kind}.{public_id}",
        f"..{inner}",
        f"../{inner}",
        f"..%2F{inner}",
        f"%2e%2e%2f{inner}",
        f"x%2F..%2F..%2Facme.{kind}.{public_id}",
        inner.replace(".", "%2E"),
        inner.replace(".", "%252E"),
        f"%00{public_id}",
        f"{public_id}%00",
        f"{public_id}%0A",
        f"{public_id}%20",
        f"{public_id}/",
        f"./{public_id}",
        f"{public_id};name=acme",
        f"{public_id}%3Fname=acme",
        f"{public_id}%23",
        f"other.{kind}.{public_id}/../../acme.{kind}.{public_id}",
        f"*{public_id[-4:]}",
        "*",
    ]


def test_jobs_and_batches_of_another_tenant_are_not_found(
    gateway: Reached, ids: dict[str, str]
) -> None:
    with raw_client(gateway) as http:
        for method, path in OPERATIONS:
            for kind, public_id in ids.items():
                for name in disguise(public_id, kind):
                    answer = http.request(method, raw_url(gateway, path.replace("{id}", name)))
                    attempt = (method, path, name, answer.status_code)
                    assert answer.status_code == 404, attempt
                    assert "secret" not in answer.text, attempt


def test_tenants_can_use_the_same_id(gateway: Reached, ids: dict[str, str], finish: Finish) -> None:
    http = gateway.client("other")
    answer = http.put(f"/v1/jobs/{ids['job']}", json=CAPTION)
    assert (answer.status_code, answer.json()["output"]) == (202, None)
    headers = {"Content-Type": "application/jsonl"}
    # A different request is accepted as well, and does not reveal that the id exists elsewhere.
    line = b'{"text": "a dog"}\n'
    params = {"id": ids["batch"], "task": "embed"}
    answer = http.post("/v1/batches", params=params, content=line, headers=headers)
    assert (answer.status_code, answer.json()["request_counts"]["completed"]) == (202, 0)
    assert http.delete(f"/v1/batches/{ids['batch']}").status_code == 204


def test_an_id_like_an_inner_id_stays_within_its_tenant(
    gateway: Reached, ids: dict[str, str]
) -> None:
    http = gateway.client("other")
    inner = f"acme.job.{ids['job']}"[:64]
    answer = http.put(f"/v1/jobs/{inner}", json=CAPTION)
    assert (answer.status_code, answer.json()["id"]) == (202, inner)
    assert answer.json()["output"] is None


def raw_client(gateway: Reached) -> httpx.Client:
    # A path with a slash at its end is redirected.
    headers = gateway.headers("other")
    return httpx.Client(headers=headers, timeout=60, follow_redirects=True)


def raw_url(gateway: Reached, path: str) -> httpx.URL:
    """Return a URL with the path unchanged: clients would resolve dots and quote it."""
    url = httpx.URL(gateway.url)
    return url.copy_with(raw_path=path.encode())
