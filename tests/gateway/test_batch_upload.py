"""Submission of uploads: backpressure, interruptions and repeated uploads."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import redis

from producer.ledger.keys import Keys
from tests.conftest import Finish

from .conftest import Reached, Run, Start
from .samples import JSONL, URL, answers_of, batches_in, body_of, items_in, resident_mb


def until(condition: Callable[[], Any]) -> Any:
    """Wait until another process makes a condition true."""
    deadline = time.monotonic() + 30
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def test_an_endless_body_is_read_as_fast_as_the_queue_accepts_it(start_gateway: Start) -> None:
    gateway = start_gateway(BLIPLINE_MAX_QUEUED_BULK="64", BLIPLINE_GATEWAY_UPLOAD_WAIT_S="3600")
    client = gateway.client()
    client.get("/v1/queues")
    before = resident_mb(gateway.process.pid)
    with uploading(gateway, "endless") as upload:
        upload.settimeout(3)
        sent = send_until_it_blocks(upload, 2**30)
        assert sent < 64 * 2**20
        assert resident_mb(gateway.process.pid) < before + 60
        assert client.get("/v1/batches/endless").json()["submitted"] is False


def test_memory_does_not_grow_with_the_upload(start_gateway: Start) -> None:
    gateway = start_gateway()
    client = gateway.client()

    def upload(lines: int) -> float:
        line = json.dumps({"image": URL, "question": "why? " * 120}).encode() + b"\n"
        pieces = (line * 1000 for _ in range(lines // 1000))
        answer = client.post("/v1/batches?task=vqa", content=pieces, headers=JSONL)
        assert answer.json()["request_counts"]["total"] == lines
        return resident_mb(gateway.process.pid, peak=True)

    peak = upload(5_000)
    # 33 MB of lines.
    assert upload(50_000) < peak + 20


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def send_until_it_blocks(upload: socket.socket, limit: int) -> int:
    sent, block = 0, chunked(body_of(10_000))
    with suppress(TimeoutError):
        while sent < limit:
            sent += upload.send(block)
    return sent


def uploading(gateway: Reached, batch: str | None = None) -> socket.socket:
    """Return a connection with an upload in progress."""
    address = urlsplit(gateway.url)
    connection = socket.create_connection((address.hostname, address.port))
    query = "" if batch is None else f"?id={batch}"
    connection.sendall(
        f"POST /v1/batches{query} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        f"Content-Type: application/jsonl\r\nAuthorization: Bearer {gateway.keys['acme']}\r\n\r\n"
        "".encode()
    )
    return connection


def test_an_interrupted_upload_continues_under_its_id(
    gateway: Reached, redis_url: str, connection: redis.Redis
) -> None:
    client, body = gateway.client(), body_of(20_000)
    with uploading(gateway, "broken") as upload:
        upload.sendall(chunked(body[:600_000]))
        until(lambda: client.get("/v1/batches/broken").status_code == 200)
        until(lambda: client.get("/v1/batches/broken").json()["request_counts"]["total"])
    until(lambda: connection.hget(Keys().batch("acme.batch.broken"), "cut"))
    status = client.get("/v1/batches/broken").json()
    assert 0 < status["request_counts"]["total"] < 20_000
    answer = client.post("/v1/batches?id=broken", content=body, headers=JSONL)
    assert answer.json()["request_counts"]["total"] == 20_000
    assert answer.json()["created_at"] == status["created_at"]
    assert [int(item["custom_id"]) for item in items_in(redis_url, "broken")] == [*range(20_000)]


def test_an_interrupted_upload_without_an_id_is_deleted(
    gateway: Reached, connection: redis.Redis
) -> None:
    with uploading(gateway) as upload:
        upload.sendall(chunked(body_of(10_000)))
        until(lambda: batches_in(connection))
    until(lambda: not batches_in(connection))
    until(lambda: gateway.client().get("/v1/queues").json()["queues"]["bulk"]["open_items"] == 0)


def test_an_upload_interrupted_before_its_first_item_leaves_no_batch(
    gateway: Reached, connection: redis.Redis
) -> None:
    with uploading(gateway, "empty") as upload:
        upload.sendall(chunked(b'{"image": '))
        until(lambda: connection.exists(Keys().batch("acme.batch.empty")))
        assert gateway.client().get("/v1/batches/empty").json()["status"] == "queued"
    until(lambda: gateway.client().get("/v1/batches/empty").status_code == 404)


def test_a_different_upload_under_the_same_id_is_rejected(gateway: Reached) -> None:
    post = gateway.client().post
    assert post("/v1/batches?id=same", content=body_of(40), headers=JSONL).status_code == 202
    assert post("/v1/batches?id=same", content=body_of(40), headers=JSONL).status_code == 202
    for query, lines in (("id=same&task=vqa", 40), ("id=same", 39), ("id=same", 90)):
        answer = post(f"/v1/batches?{query}", content=body_of(lines), headers=JSONL)
        assert (answer.status_code, answer.json()["code"]) == (409, "id_taken")
        assert "acme.batch" not in answer.text
    get = gateway.client().get("/v1/batches/same").json()
    assert get["request_counts"]["total"] == 40


def test_an_ended_batch_answers_only_the_same_upload(gateway: Reached, finish: Finish) -> None:
    post, url = gateway.client().post, "/v1/batches?id=over"
    post(url, content=body_of(40), headers=JSONL)
    for number in (0, 1):
        finish(f"acme.batch.over:{number}", answers_of(number, 40))
    changed = body_of(40).replace(b"cat.jpg", b"dog.jpg")
    answer = post(url, content=changed, headers=JSONL)
    assert (answer.status_code, answer.json()["code"]) == (409, "id_taken")
    answer = post(url, content=body_of(40), headers=JSONL)
    assert (answer.status_code, answer.json()["status"]) == (202, "done")


def test_a_full_queue_answers_with_the_id_to_continue(
    run_gateway: Run, finish: Finish, redis_url: str
) -> None:
    gateway = run_gateway(BLIPLINE_MAX_QUEUED_BULK="64", BLIPLINE_GATEWAY_UPLOAD_WAIT_S="1")
    post = gateway.client().post
    answer = post("/v1/batches", content=body_of(90), headers=JSONL)
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert int(answer.headers["Retry-After"]) > 0
    (batch,) = re.findall(r"id=(\S+)", answer.json()["detail"])
    assert "has 64 items" in answer.json()["detail"]
    for number in (0, 1):
        finish(f"acme.batch.{batch}:{number}", answers_of(number, 90))
    answer = post(f"/v1/batches?id={batch}", content=body_of(90), headers=JSONL)
    assert (answer.status_code, answer.json()["request_counts"]["total"]) == (202, 90)
