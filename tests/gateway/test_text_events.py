"""Server-sent events of a job's text."""

from __future__ import annotations

import json
from typing import Any

import httpx
import redis

from producer.ledger.keys import Keys
from tests.conftest import Finish

from .fake_worker import running_fake_worker
from .samples import URL


def events_of(lines: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and data of events, without heartbeats."""
    events = []
    for block in lines.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if fields:
            events.append((fields["event"], json.loads(fields["data"])))
    return events


def test_one_request_streams_its_text(
    http: httpx.Client, connection: redis.Redis, finish: Finish
) -> None:
    observed: list[dict[str, Any]] = []
    with running_fake_worker(connection, finish, observe=observed.append):
        response = http.post(
            "/v1/caption", json={"image": URL}, headers={"Accept": "text/event-stream"}
        )
    assert response.headers["content-type"].startswith("text/event-stream")
    (text, end) = events_of(response.text)
    assert text == ("text", {"text": "a cat"})
    assert (end[0], end[1]["status"], end[1]["output"]["text"]) == ("end", "done", "a cat")
    assert observed[0]["options"] == {"stream": True}


def test_a_repeated_stream_has_the_metadata_of_the_first_request(
    http: httpx.Client, finish: Finish
) -> None:
    def send(accept: str, **metadata: str) -> httpx.Response:
        headers = {"Idempotency-Key": "streamed-twice", "Accept": accept, "Prefer": "wait=0"}
        body = {"image": URL, "metadata": metadata, "options": {"stream": True}}
        return http.post("/v1/caption", json=body, headers=headers)

    first = send("application/json", run="1").json()
    finish(f"acme.job.{first['id']}", [{"text": "a cat"}])
    end = events_of(send("text/event-stream", run="2").text)[-1][1]
    read = http.get(f"/v1/jobs/{first['id']}").json()
    for body in (end, read):
        assert (body["created_at"], body["metadata"]) == (first["created_at"], {"run": "1"})


def test_the_text_of_a_job_grows_until_its_end(
    http: httpx.Client, connection: redis.Redis, finish: Finish
) -> None:
    body = {"task": "caption", "image": URL, "options": {"stream": True}}
    job_id = http.post("/v1/jobs", json=body).json()["id"]
    key = Keys().partial_text(f"acme.job.{job_id}")
    connection.set(key, "a c")
    received = ""
    with http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        for text in response.iter_text():
            received += text
            if received.count("event: text") == 1 and "end" not in received:
                connection.delete(key)
                finish(f"acme.job.{job_id}", [{"text": "a dog"}])
    names = [name for name, _ in events_of(received)]
    # The worker that wrote "a c" has died, and the next one has written another text
    assert names == ["text", "restart", "text", "end"]
    assert events_of(received)[2][1] == {"text": "a dog"}


def test_a_failed_job_ends_its_stream_with_the_error(
    http: httpx.Client, connection: redis.Redis, finish: Finish
) -> None:
    job_id = http.post("/v1/jobs", json={"task": "caption", "image": URL}).json()["id"]
    finish(f"acme.job.{job_id}", [{"error": {"code": "image_invalid", "message": "no image"}}])
    response = http.get(f"/v1/jobs/{job_id}/events")
    ((name, body),) = events_of(response.text)
    assert (name, body["status"], body["error"]["code"]) == ("end", "failed", "image_invalid")
    assert http.get("/v1/jobs/none/events").status_code == 404
