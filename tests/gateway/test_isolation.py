"""Two names, one gateway: neither reaches anything of the other's."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from producer.ledger.ids import new_id
from tests.conftest import Finish

from .conftest import Reached
from .samples import CAPTION

#: Everything that can be done to a job or a batch that is there.
TRIES = [
    ("GET", "/v1/jobs/{id}"),
    ("HEAD", "/v1/jobs/{id}"),
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
    """A job and a batch of acme's, which have ended, and stay as they are whatever others try."""
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


def disguised(outer_id: str, kind: str) -> list[str]:
    """Ways to name something of acme's, and what is inside."""
    inner = f"acme.{kind}.{outer_id}"
    return [
        outer_id,
        inner,
        f"{inner}:0",
        f".{kind}.{outer_id}",
        f"..{inner}",
        f"../{inner}",
        f"..%2F{inner}",
        f"%2e%2e%2f{inner}",
        f"x%2F..%2F..%2Facme.{kind}.{outer_id}",
        inner.replace(".", "%2E"),
        inner.replace(".", "%252E"),
        f"%00{outer_id}",
        f"{outer_id}%00",
        f"{outer_id}%0A",
        f"{outer_id}%20",
        f"{outer_id}/",
        f"./{outer_id}",
        f"{outer_id};name=acme",
        f"{outer_id}%3Fname=acme",
        f"{outer_id}%23",
        f"other.{kind}.{outer_id}/../../acme.{kind}.{outer_id}",
        f"*{outer_id[-4:]}",
        "*",
    ]


def test_nothing_of_another_name_is_found(gateway: Reached, ids: dict[str, str]) -> None:
    with raw_client(gateway) as http:
        for method, path in TRIES:
            for kind, outer_id in ids.items():
                for name in disguised(outer_id, kind):
                    answer = http.request(method, raw_url(gateway, path.replace("{id}", name)))
                    about = (method, path, name, answer.status_code)
                    assert answer.status_code == 404, about
                    assert "secret" not in answer.text, about


def test_the_same_id_is_another_job_for_another_name(
    gateway: Reached, ids: dict[str, str], finish: Finish
) -> None:
    http = gateway.client("other")
    answer = http.put(f"/v1/jobs/{ids['job']}", json=CAPTION)
    assert (answer.status_code, answer.json()["output"]) == (202, None)
    headers = {"Content-Type": "application/jsonl"}
    # Also where what is asked differs: nobody learns that the id is taken elsewhere.
    line = b'{"text": "a dog"}\n'
    params = {"id": ids["batch"], "task": "embed"}
    answer = http.post("/v1/batches", params=params, content=line, headers=headers)
    assert (answer.status_code, answer.json()["request_counts"]["completed"]) == (202, 0)
    assert http.delete(f"/v1/batches/{ids['batch']}").status_code == 204


def test_an_id_that_looks_like_one_inside_stays_within_the_name(
    gateway: Reached, ids: dict[str, str]
) -> None:
    http = gateway.client("other")
    inner = f"acme.job.{ids['job']}"[:64]
    answer = http.put(f"/v1/jobs/{inner}", json=CAPTION)
    assert (answer.status_code, answer.json()["id"]) == (202, inner)
    assert answer.json()["output"] is None


def raw_client(gateway: Reached) -> httpx.Client:
    # A path that ends with a slash is told where else to look.
    headers = gateway.headers("other")
    return httpx.Client(headers=headers, timeout=60, follow_redirects=True)


def raw_url(gateway: Reached, path: str) -> httpx.URL:
    """With the path as it stands: clients resolve dots and quote."""
    url = httpx.URL(gateway.url)
    return url.copy_with(raw_path=path.encode())
