"""Lists of jobs and batches over HTTP: pages, filters, metadata, times, and erased jobs."""

from __future__ import annotations

import json
import time
from typing import Any, Final

import httpx
import pytest
import redis

from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from tests.conftest import Finish

from .conftest import Reached

URL: Final = "https://images.example.com/cat.jpg"


def submit(http: httpx.Client, **fields: Any) -> str:
    """Submit a job and return its id."""
    answer = http.post("/v1/jobs", json={"task": "caption", "image": URL, **fields})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def listed(http: httpx.Client, path: str = "/v1/jobs", **query: Any) -> list[str]:
    """Return the ids of all pages of a list."""
    ids: list[str] = []
    while True:
        answer = http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert page["object"] == "list"
        assert page["has_more"] == (page["next_cursor"] is not None)
        ids += [body["id"] for body in page["data"]]
        if not page["has_more"]:
            return ids
        query["cursor"] = page["next_cursor"]


@pytest.fixture
def jobs(http: httpx.Client, finish: Finish) -> dict[str, str]:
    """Six jobs by name, in the order of submission; three have ended."""
    names = {
        "caption": submit(http, metadata={"project": "cats", "run": "1"}),
        "question": submit(
            http, task="vqa", question="how many?", metadata={"project": "cats", "run": "2"}
        ),
        "text": submit(http, task="embed", image=None, text="a cat"),
        "failed": submit(http, metadata={"project": "dogs"}),
        "cancelled": submit(http),
        "open": submit(http),
    }
    finish(f"acme.job.{names['caption']}", [{"text": "a cat"}])
    finish(f"acme.job.{names['failed']}", [{"error": {"code": "internal", "message": "x"}}])
    http.delete(f"/v1/jobs/{names['cancelled']}")
    return names


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 100])
def test_pages_contain_all_jobs_the_newest_first(
    http: httpx.Client, gateway: Reached, jobs: dict[str, str], limit: int
) -> None:
    assert listed(http, limit=limit) == list(jobs.values())[::-1]
    assert listed(gateway.client("other"), limit=limit) == []


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"status": "done"}, ["caption"]),
        ({"status": "failed"}, ["failed"]),
        ({"status": "cancelled"}, ["cancelled"]),
        ({"status": "queued"}, ["open", "text", "question"]),
        ({"task": "vqa"}, ["question"]),
        ({"task": "embed", "status": "queued"}, ["text"]),
        ({"metadata": "project=cats"}, ["question", "caption"]),
        ({"metadata": ["project=cats", "run=2"]}, ["question"]),
        ({"metadata": "project=birds"}, []),
        ({"until": 1}, []),
        ({"since": 9_999_999_999}, []),
    ],
    ids=str,
)
@pytest.mark.parametrize("limit", [1, 20])
def test_filters_select_jobs(
    http: httpx.Client, jobs: dict[str, str], query: dict[str, Any], names: list[str], limit: int
) -> None:
    assert listed(http, limit=limit, **query) == [jobs[name] for name in names]


def test_times_of_the_submission_select_jobs(http: httpx.Client) -> None:
    early = submit(http)
    between = time.time()
    late = submit(http)
    assert listed(http, since=between) == [late]
    assert listed(http, until=between) == [early]


def test_the_states_of_many_jobs_are_read_at_once(http: httpx.Client, jobs: dict[str, str]) -> None:
    ids = [jobs["open"], "none", jobs["caption"]]
    data = http.get("/v1/jobs", params={"id": ids}).json()["data"]
    assert [(body["id"], body["status"]) for body in data] == [
        (jobs["open"], "queued"),
        (jobs["caption"], "done"),
    ]
    assert data[1]["output"] == {"text": "a cat"}
    assert data == [http.get(f"/v1/jobs/{name}").json() for name in (ids[0], ids[2])]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 101},
        {"cursor": "x"},
        {"status": "expiring"},
        {"task": "paint"},
        {"since": "nan"},
        {"metadata": "project"},
        {"metadata": "=cats"},
        {"id": ["-"]},
        {"colour": 1},
    ],
    ids=str,
)
def test_an_invalid_parameter_is_a_422_that_names_it(
    http: httpx.Client, query: dict[str, Any]
) -> None:
    answer = http.get("/v1/jobs", params=query)
    assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid")
    assert any(name in answer.json()["detail"] for name in query)


def test_metadata_is_returned_and_bounded(http: httpx.Client) -> None:
    pairs = {f"name {number}": "é" * 512 for number in range(16)}
    job_id = submit(http, metadata=pairs)
    assert http.get(f"/v1/jobs/{job_id}").json()["metadata"] == pairs
    assert http.get(f"/v1/jobs/{submit(http)}").json()["metadata"] == {}
    invalid: list[Any] = [{"a": 1}, {"": "x"}, {"a" * 65: ""}, {"a": "x" * 513}, []]
    for wrong in (*invalid, pairs | {"more": ""}):
        answer = http.post("/v1/jobs", json={"task": "caption", "image": URL, "metadata": wrong})
        assert answer.status_code == 422
        assert "metadata" in answer.json()["detail"]


def test_a_form_contains_metadata_as_json(http: httpx.Client) -> None:
    data = {"image": URL, "metadata": json.dumps({"project": "cats"})}
    answer = http.post("/v1/caption", data=data, headers={"Prefer": "wait=0"})
    assert answer.json()["metadata"] == {"project": "cats"}


def test_a_job_that_has_ended_has_its_times(http: httpx.Client, jobs: dict[str, str]) -> None:
    before = http.get(f"/v1/jobs/{jobs['open']}").json()
    assert (before["started_at"], before["ended_at"], before["expires_at"]) == (None, None, None)
    for name in ("caption", "cancelled"):
        body = http.get(f"/v1/jobs/{jobs[name]}").json()
        assert body["created_at"] - 1 <= body["ended_at"] <= time.time() + 1
        assert body["expires_at"] == pytest.approx(body["ended_at"] + 24 * 3600)


def test_a_running_job_has_its_start(
    http: httpx.Client, connection: redis.Redis, jobs: dict[str, str]
) -> None:
    Leases(connection).claim(f"acme.job.{jobs['open']}", started_at=1795000000.4564)
    body = http.get(f"/v1/jobs/{jobs['open']}").json()
    assert (body["status"], body["started_at"], body["ended_at"]) == (
        "running",
        1795000000.456,
        None,
    )
    (of_list,) = http.get("/v1/jobs", params={"status": "running"}).json()["data"]
    assert of_list == body
    prediction = http.get(f"/replicate/v1/predictions/{jobs['open']}").json()
    assert prediction["started_at"] == "2026-11-18T11:06:40.456000+00:00"


def test_batches_are_listed_with_their_metadata(
    http: httpx.Client, gateway: Reached, finish: Finish
) -> None:
    line = json.dumps({"image": URL})
    for name, task, query in (
        ("one", "caption", {"metadata": ["project=cats", "run=1"]}),
        ("two", "caption", {}),
        ("three", "vqa", {"metadata": "project=cats"}),
    ):
        content = line if task == "caption" else json.dumps({"image": URL, "question": "?"})
        parameters = {"id": name, "task": task, **query}
        answer = http.post("/v1/batches", params=parameters, content=content)
        assert answer.status_code == 202, answer.text
    finish("acme.batch.one:0", [{"text": "a cat"}])
    assert listed(http, "/v1/batches", limit=2) == ["three", "two", "one"]
    assert listed(http, "/v1/batches", status="done") == ["one"]
    assert listed(http, "/v1/batches", task="vqa") == ["three"]
    assert listed(http, "/v1/batches", metadata="project=cats", limit=1) == ["three", "one"]
    body = http.get("/v1/batches/one").json()
    assert body["metadata"] == {"project": "cats", "run": "1"}
    assert http.get("/v1/batches", params={"status": "done"}).json()["data"] == [body]
    assert listed(gateway.client("other"), "/v1/batches") == []
    http.delete("/v1/batches/two")
    assert listed(http, "/v1/batches") == ["three", "one"]
    # The items of a batch are no single jobs.
    assert listed(http) == []


def test_a_page_of_batches_is_read_at_once(http: httpx.Client, connection: redis.Redis) -> None:
    def reads() -> int:
        stats: Any = connection.info("commandstats")
        return int(stats["cmdstat_time"]["calls"])

    count = 60
    for n in range(count):
        content = json.dumps({"image": URL})
        assert http.post("/v1/batches", params={"id": f"many-{n}"}, content=content).is_success
    before = reads()
    assert http.get("/v1/batches", params={"status": "done"}).json()["data"] == []
    # The gateway looks for due webhooks, too.
    assert reads() - before < count // 2
    assert len(listed(http, "/v1/batches", limit=50)) == count


@pytest.mark.parametrize("name", ["caption", "open"])
def test_an_erased_job_leaves_nothing(
    http: httpx.Client, connection: redis.Redis, jobs: dict[str, str], name: str
) -> None:
    assert http.delete(f"/v1/jobs/{jobs[name]}", params={"erase": True}).status_code == 204
    assert http.get(f"/v1/jobs/{jobs[name]}").status_code == 404
    assert jobs[name] not in listed(http)
    names: Any = connection.keys(f"*{jobs[name]}*")
    assert names == []
    assert connection.zscore(Keys().open, f"acme.job.{jobs[name]}") is None
