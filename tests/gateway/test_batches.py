"""Batches over HTTP: status, results, cancel, retry and delete."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
import redis

from producer import Client
from producer.contract import Task
from producer.gateway.schemas.metadata import RequestMetadata
from producer.ledger.leases import Leases
from producer.ledger.ledger import Ledger
from tests.conftest import Finish

from .samples import CHUNK, JSONL, URL, answers_of, body_of, lines_of


def submit(http: httpx.Client, batch: str, count: int, **terms: Any) -> None:
    params = {"id": batch, **terms}
    answer = http.post("/v1/batches", params=params, content=body_of(count), headers=JSONL)
    assert answer.status_code == 202, answer.text


def end(finish: Finish, batch: str, number: int, total: int) -> None:
    finish(f"acme.batch.{batch}:{number}", answers_of(number, total))


def test_a_batch_reports_its_progress(http: httpx.Client, finish: Finish) -> None:
    submit(http, "far", 80, task="vqa")
    answer = http.get("/v1/batches/far")
    body = answer.json()
    assert (body["status"], body["task"], body["submitted"]) == ("queued", "vqa", True)
    assert body["request_counts"] == {"total": 80, "completed": 0, "failed": 0}
    assert int(answer.headers["Retry-After"]) > 0
    failed = [{"error": {"code": "image_invalid", "message": "no"}}]
    finish("acme.batch.far:0", failed + answers_of(0, 80)[1:])
    body = http.get("/v1/batches/far").json()
    assert body["status"] == "running"
    assert body["request_counts"] == {"total": 80, "completed": 31, "failed": 1}
    end(finish, "far", 1, 80)
    end(finish, "far", 2, 80)
    body = http.get("/v1/batches/far").json()
    assert (body["status"], body["left_s"]) == ("failed", 0.0)


def test_a_batch_has_the_times_of_its_start_and_its_end(
    http: httpx.Client, connection: redis.Redis, finish: Finish
) -> None:
    def times() -> list[float | None]:
        body = http.get("/v1/batches/times").json()
        return [body[name] for name in ("started_at", "ended_at", "expires_at")]

    started = time.time()
    submit(http, "times", 40, keep_s=100)
    assert times() == [None, None, None]
    for number in (0, 1):
        (record,) = Ledger(connection).records([f"acme.batch.times:{number}"])
        assert record is not None
        Leases(connection).claim(record.id, record.generation)
    first, *ends = times()
    assert first is not None
    assert started - 1 <= first <= time.time() + 1
    assert ends == [None, None]
    finish("acme.batch.times:0", answers_of(0, 40))
    assert times() == [first, None, None]
    failed = {"error": {"code": "image_invalid", "message": "no"}}
    finish("acme.batch.times:1", [failed, *answers_of(1, 40)[1:]])
    _, ended, expires = times()
    assert ended is not None
    assert first <= ended <= time.time() + 1
    assert expires == pytest.approx(ended + 100)
    http.post("/v1/batches/times/retry")
    assert times() == [first, None, None]


def test_results_continue_in_order_after_a_cursor(http: httpx.Client, finish: Finish) -> None:
    submit(http, "order", 80)
    for number in (2, 0):
        end(finish, "order", number, 80)

    def read(**params: Any) -> list[dict[str, Any]]:
        return lines_of(http.get("/v1/batches/order/results", params=params))

    # Up to the first missing result.
    lines = read()
    assert [line["index"] for line in lines] == [*range(32)]
    assert lines[5] == {
        "custom_id": "5",
        "status": "ok",
        "text": "text 5",
        "index": 5,
        "cursor": 6,
    }
    ended = [line["index"] for line in read(order="completed")]
    assert ended == [*range(64, 80), *range(32)]
    assert read(order="completed", cursor=lines[0]["cursor"], limit=3)[0]["index"] == 65
    end(finish, "order", 1, 80)
    assert [line["index"] for line in read(cursor=30, limit=7)] == [*range(30, 37)]
    assert [line["index"] for line in read(wait="true")] == [*range(80)]
    assert read(cursor=80) == []
    assert http.get("/v1/batches/order/results").headers["Blipline-Status"] == "done"


def test_errors_contain_only_failed_items(http: httpx.Client, finish: Finish) -> None:
    submit(http, "failed", 64)
    bad = {"error": {"code": "image_invalid", "message": "no"}}
    for number in (0, 1):
        answers = answers_of(number, 64)
        answers[3] = {"custom_id": "bad", **bad}
        finish(f"acme.batch.failed:{number}", answers)
    both = lines_of(http.get("/v1/batches/failed/errors?wait=true"))
    assert [(line["index"], line["error"]) for line in both] == [
        (3, bad["error"]),
        (35, bad["error"]),
    ]
    limited = lines_of(http.get("/v1/batches/failed/errors?limit=1"))
    assert limited == both[:1]
    after = lines_of(http.get(f"/v1/batches/failed/errors?cursor={limited[0]['cursor']}"))
    assert after == both[1:]


def test_a_stream_of_results_waits_for_the_rest(http: httpx.Client, finish: Finish) -> None:
    submit(http, "waits", 96)
    numbers = iter(range(3))
    end(finish, "waits", next(numbers), 96)
    seen = 0
    with http.stream("GET", "/v1/batches/waits/results?wait=true") as answer:
        for _ in answer.iter_lines():
            seen += 1
            # The next chunk ends once the previous one has arrived.
            if seen % CHUNK == 0 and seen < 96:
                end(finish, "waits", next(numbers), 96)
    assert seen == 96


def test_every_item_of_a_cancelled_batch_has_a_result(http: httpx.Client, finish: Finish) -> None:
    submit(http, "cancel", 96)
    end(finish, "cancel", 0, CHUNK)
    with http.stream("GET", "/v1/batches/cancel/results?wait=true") as answer:
        lines = answer.iter_lines()
        read = [next(lines) for _ in range(CHUNK)]
        assert http.post("/v1/batches/cancel/cancel").json()["status"] == "cancelled"
        read += lines
    assert len(read) == 96
    assert [json.loads(line)["status"] for line in read] == ["ok"] * CHUNK + ["error"] * 64


def test_a_result_stream_of_a_deleted_batch_is_aborted(http: httpx.Client, finish: Finish) -> None:
    submit(http, "delete", 96)
    end(finish, "delete", 0, 96)
    with http.stream("GET", "/v1/batches/delete/results?wait=true") as answer:
        lines = answer.iter_lines()
        for _ in range(CHUNK):
            next(lines)
        assert http.delete("/v1/batches/delete").status_code == 204
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)


def test_failed_items_are_retried(http: httpx.Client, finish: Finish, client: Client) -> None:
    submit(http, "again", 3)
    bad = {"error": {"code": "image_unreachable", "message": "down"}}
    finish("acme.batch.again:0", [{"text": "a"}, bad, {"text": "c"}])
    assert http.get("/v1/batches/again").json()["status"] == "failed"
    answer = http.post("/v1/batches/again/retry")
    assert (answer.status_code, answer.json()) == (200, {"items": 1})
    assert http.get("/v1/batches/again").json()["status"] in ("queued", "running")
    assert http.post("/v1/batches/again/cancel").status_code == 200
    assert http.post("/v1/batches/again/retry").status_code == 200


def test_a_deleted_batch_is_not_found(
    http: httpx.Client, finish: Finish, connection: redis.Redis
) -> None:
    submit(http, "gone", 40)
    end(finish, "gone", 0, 40)
    assert http.delete("/v1/batches/gone").status_code == 204
    for method, path in [
        ("GET", ""),
        ("GET", "/results"),
        ("GET", "/errors"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("DELETE", ""),
    ]:
        answer = http.request(method, f"/v1/batches/gone{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert http.get("/v1/queues").json()["queues"]["bulk"]["open_items"] == 0
    # The id is free again.
    submit(http, "gone", 1)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("?colour=red", "colour"),
        ("?task=paint", "task"),
        ("?keep_s=0", "keep_s"),
        ("?deadline_s=-1", "deadline_s"),
        ("?webhook=ftp://x", "webhook"),
        ("?max_new_tokens=many", "max_new_tokens"),
        ("?deadline=1", "deadline"),
        ("?id=a/b", "id"),
    ],
)
def test_an_invalid_upload_parameter_is_named(http: httpx.Client, path: str, expected: str) -> None:
    answer = http.post(f"/v1/batches{path}", content=body_of(1), headers=JSONL)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(expected)


def test_an_invalid_results_parameter_is_named(http: httpx.Client) -> None:
    submit(http, "read", 1)
    for query in ("cursor=-1", "limit=0", "order=none", "wait=maybe", "page=2"):
        answer = http.get(f"/v1/batches/read/results?{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid")
        assert answer.json()["detail"].startswith(query.partition("=")[0])


def test_an_interrupted_batch_is_not_fully_submitted(
    http: httpx.Client, client: Client, finish: Finish
) -> None:
    def fail(items: int) -> None:
        raise OSError("connection lost")

    note = RequestMetadata.now(Task.CAPTION).encode()
    options: dict[str, Any] = {"batch_id": "acme.batch.broken", "note": note}
    with pytest.raises(OSError, match="connection lost"):
        client.submit_batch([URL], on_submitted=fail, **options)
    finish("acme.batch.broken:0", [{"text": "a cat"}])
    body = http.get("/v1/batches/broken").json()
    assert (body["status"], body["submitted"]) == ("done", False)
    client.submit_batch([URL], **options)
    assert http.get("/v1/batches/broken").json()["submitted"]


@pytest.mark.parametrize("kind", ["results", "errors"])
def test_results_are_lines_that_no_proxy_buffers(http: httpx.Client, kind: str) -> None:
    http.post("/v1/batches?id=types", content=body_of(1), headers=JSONL)
    for accept, media_type in (
        ("*/*", "application/x-ndjson"),
        ("application/json", "application/x-ndjson"),
        ("application/jsonl", "application/jsonl"),
        ("text/html, application/octet-stream;q=0.9", "application/octet-stream"),
    ):
        answer = http.get(f"/v1/batches/types/{kind}", headers={"Accept": accept})
        assert answer.headers["Content-Type"] == media_type
        assert answer.headers["X-Accel-Buffering"] == "no"
