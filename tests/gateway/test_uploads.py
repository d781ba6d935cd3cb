"""Uploads: whatever the body, bounded memory, and an answer that says what became of it."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from producer import Client
from producer.gateway.problems import Problem
from producer.gateway.request_body import with_idle_timeout
from producer.gateway.uploads import MAX_TENANT_UPLOADS, PIECE_BYTES, UploadSlots, inflate
from producer.ledger.keys import Keys
from tests.conftest import Finish

from .conftest import Reached, Start
from .samples import JSONL, URL, answers_of, body_of, resident_mb

FORM = {"Content-Type": "multipart/form-data; boundary=xx"}
PART = b'--xx\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
END = b"--xx--\r\n"
GZ = gzip.compress(body_of(3))


def form(*parts: tuple[bytes, bytes]) -> bytes:
    return b"".join(PART % name + value + b"\r\n" for name, value in parts) + END


def items_in(redis_url: str, batch: str) -> list[dict[str, Any]]:
    """What workers are asked for, in order."""
    with redis.Redis.from_url(redis_url) as connection:
        rows = sorted(
            (int(key.rpartition(b":")[2]), connection.get(key))
            for key in connection.scan_iter(f"*job:acme.batch.{batch}:*")
        )
    return [item for _, row in rows for item in json.loads(row.split(b"\n", 2)[2])["items"]]


def batches_in(connection: redis.Redis) -> list[bytes]:
    return [key for key in connection.scan_iter("*batch:*", count=1000) if b"batch:acme" in key]


def until(true: Callable[[], Any]) -> Any:
    """Wait for something that another process does soon."""
    deadline = time.monotonic() + 30
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


# Bodies


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (GZ, {**JSONL, "Content-Encoding": "gzip"}),
        (GZ, {"Content-Type": "application/octet-stream"}),
        (gzip.compress(body_of(1)) + gzip.compress(body_of(3)[len(body_of(1)) :]), JSONL),
        (GZ + bytes(512), JSONL),
        (gzip.compress(GZ), {**JSONL, "Content-Encoding": "gzip"}),
        (form((b"file", body_of(3))), FORM),
        (form((b"file", GZ)), FORM),
        (b"\xef\xbb\xbf" + body_of(3).replace(b"\n", b"\r\n").rstrip(), JSONL),
    ],
    ids=["gzip", "gzip by its bytes", "members", "padded", "twice", "form", "gzip form", "windows"],
)
def test_lines_come_in_many_ways(
    gateway: Reached, redis_url: str, body: bytes, headers: dict[str, str]
) -> None:
    answer = gateway.client().post("/v1/batches?id=ways", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == "/v1/batches/ways"
    assert items_in(redis_url, "ways") == [
        {"custom_id": str(number), "image": URL} for number in range(3)
    ]


@pytest.mark.parametrize(
    ("status", "body", "headers", "about"),
    [
        (422, b"", JSONL, "no item"),
        (422, b"\n \n", JSONL, "no item"),
        (400, GZ[:-6], {**JSONL, "Content-Encoding": "gzip"}, "breaks off"),
        (400, GZ + b"x", JSONL, "gzip"),
        (400, b"\x1f\x8bno", JSONL, "gzip"),
        (400, body_of(3), {**JSONL, "Content-Encoding": "gzip"}, "gzip"),
        (415, body_of(3), {**JSONL, "Content-Encoding": "br"}, "br"),
        (415, GZ, {**FORM, "Content-Encoding": "gzip"}, "not the form"),
        (415, body_of(3), {"Content-Type": "application/json"}, "application/jsonl"),
        (400, body_of(3), {"Content-Type": "multipart/form-data"}, "boundary"),
        (400, b"no form at all", FORM, "multipart"),
        (400, form((b"file", body_of(3)))[:-4], FORM, "breaks off"),
        (422, form((b"task", b"vqa")), FORM, "no part `file`"),
        (422, form((b"colour", b"red"), (b"file", body_of(3))), FORM, "colour"),
        (422, form((b"file", body_of(3)), (b"task", b"vqa")), FORM, "task"),
        (422, form((b"file", body_of(3)), (b"file", body_of(3))), FORM, "file"),
        (422, form((b"task", b"vqa"), (b"task", b"vqa"), (b"file", body_of(3))), FORM, "twice"),
        (413, form((b"webhook", b"x" * 70_000), (b"file", body_of(3))), FORM, "fields"),
        (413, form(*((b"%03000d" % n, b"") for n in range(30)), (b"file", b"")), FORM, "fields"),
        (413, form(*((b"%d" % n, b"") for n in range(40)), (b"file", body_of(3))), FORM, "parts"),
    ],
)
def test_a_body_that_cannot_be_used_leaves_nothing(
    gateway: Reached,
    connection: redis.Redis,
    status: int,
    body: bytes,
    headers: dict[str, str],
    about: str,
) -> None:
    answer = gateway.client().post("/v1/batches", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert about in answer.json()["detail"]
    assert "acme.batch" not in answer.text
    assert batches_in(connection) == []


def test_the_fields_of_a_form_are_those_of_the_address(gateway: Reached, client: Client) -> None:
    fields = {"task": "vqa", "id": "fields", "keep_s": "60", "max_new_tokens": "5"}
    post = gateway.client().post
    answer = post("/v1/batches", data=fields, files={"file": ("a.jsonl", body_of(1))})
    assert (answer.status_code, answer.json()["task"]) == (202, "vqa")
    twice = post("/v1/batches?task=vqa", data=fields, files={"file": ("a.jsonl", body_of(1))})
    assert (twice.status_code, twice.json()["detail"][:5]) == (422, "task:")
    wrong = post("/v1/batches", data={"keep_s": "-1"}, files={"file": ("a.jsonl", body_of(1))})
    assert (wrong.status_code, wrong.json()["detail"][:6]) == (422, "keep_s")


def test_a_line_that_cannot_be_used_is_an_error_in_its_place(
    gateway: Reached, redis_url: str
) -> None:
    pixel = "data:image/png;base64,AAAA"
    lines = [{"image": "/etc/passwd"}, {"image": pixel}, {"image": ["x"]}, {"image": URL}]
    body = "\n".join([*map(json.dumps, lines), "{", ""]).encode()
    answer = gateway.client().post("/v1/batches?id=lines", content=body, headers=JSONL)
    assert answer.json()["request_counts"]["total"] == 5
    path, data, listed, good, broken = items_in(redis_url, "lines")
    assert [one["error"]["code"] for one in (path, listed)] == ["image_invalid"] * 2
    assert data["image"].startswith("blob:")
    assert good["image"] == URL
    assert "line 5" in broken["error"]["message"]


def test_bombs_end_as_soon_as_they_are_too_large(
    start_gateway: Start, connection: redis.Redis
) -> None:
    gateway = start_gateway(BLIPLINE_GATEWAY_MAX_BODY_MB="8")
    post = gateway.client().post
    post("/v1/batches", content=body_of(1), headers=JSONL)
    before = resident_mb(gateway.process.pid)
    pack = zlib.compressobj(wbits=31)
    bomb = b"".join(pack.compress(bytes(2**20)) for _ in range(600)) + pack.flush()
    headers = {**JSONL, "Content-Encoding": "gzip"}
    for one in (bomb, gzip.compress(bomb)):
        answer = post("/v1/batches?id=bomb", content=one, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert "MAX_BODY_MB" in answer.json()["detail"]
    assert resident_mb(gateway.process.pid, most=True) < before + 60
    assert batches_in(connection) == [key for key in batches_in(connection) if b"bomb" not in key]


def test_a_batch_has_only_so_many_lines(start_gateway: Start, connection: redis.Redis) -> None:
    post = start_gateway(BLIPLINE_GATEWAY_MAX_ITEMS="100").client().post
    assert post("/v1/batches?id=fits", content=body_of(100), headers=JSONL).status_code == 202
    known = batches_in(connection)
    for body in (body_of(5000), body_of(1) + b"\n" * 200):
        answer = post("/v1/batches", content=body, headers=JSONL)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert "MAX_ITEMS" in answer.json()["detail"]
    assert batches_in(connection) == known


def test_a_body_without_end_is_read_only_as_fast_as_there_is_room(start_gateway: Start) -> None:
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
        line = json.dumps({"image": URL, "question": "why? " * 60}).encode() + b"\n"
        pieces = (line * 1000 for _ in range(lines // 1000))
        answer = client.post("/v1/batches?task=vqa", content=pieces, headers=JSONL)
        assert answer.json()["request_counts"]["total"] == lines
        return resident_mb(gateway.process.pid, most=True)

    few = upload(10_000)
    # 80 MB of lines.
    assert upload(200_000) < few + 30


# Uploads that break off


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def send_until_it_blocks(upload: socket.socket, most: int) -> int:
    sent, block = 0, chunked(body_of(10_000))
    with suppress(TimeoutError):
        while sent < most:
            sent += upload.send(block)
    return sent


def uploading(gateway: Reached, batch: str | None = None) -> socket.socket:
    """A connection that has begun to upload."""
    address = urlsplit(gateway.url)
    connection = socket.create_connection((address.hostname, address.port))
    query = "" if batch is None else f"?id={batch}"
    connection.sendall(
        f"POST /v1/batches{query} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        f"Content-Type: application/jsonl\r\nAuthorization: Bearer {gateway.keys['acme']}\r\n\r\n"
        "".encode()
    )
    return connection


def test_an_upload_that_breaks_off_goes_on_under_its_id(
    gateway: Reached, redis_url: str, connection: redis.Redis
) -> None:
    client, body = gateway.client(), body_of(20_000)
    with uploading(gateway, "broken") as upload:
        upload.sendall(chunked(body[:600_000]))
        until(lambda: client.get("/v1/batches/broken").status_code == 200)
        until(lambda: client.get("/v1/batches/broken").json()["request_counts"]["total"])
    until(lambda: connection.hget(Keys().batch("acme.batch.broken"), "cut"))
    left = client.get("/v1/batches/broken").json()
    assert 0 < left["request_counts"]["total"] < 20_000
    answer = client.post("/v1/batches?id=broken", content=body, headers=JSONL)
    assert answer.json()["request_counts"]["total"] == 20_000
    assert answer.json()["created_at"] == left["created_at"]
    assert [int(item["custom_id"]) for item in items_in(redis_url, "broken")] == [*range(20_000)]


def test_an_upload_that_breaks_off_without_an_id_is_deleted(
    gateway: Reached, connection: redis.Redis
) -> None:
    with uploading(gateway) as upload:
        upload.sendall(chunked(body_of(10_000)))
        until(lambda: batches_in(connection))
    until(lambda: not batches_in(connection))
    until(lambda: gateway.client().get("/v1/queues").json()["queues"]["bulk"]["open_items"] == 0)


def test_the_same_id_for_something_else_is_refused(gateway: Reached) -> None:
    post = gateway.client().post
    assert post("/v1/batches?id=same", content=body_of(40), headers=JSONL).status_code == 202
    assert post("/v1/batches?id=same", content=body_of(40), headers=JSONL).status_code == 202
    for query, lines in (("id=same&task=vqa", 40), ("id=same", 39), ("id=same", 90)):
        answer = post(f"/v1/batches?{query}", content=body_of(lines), headers=JSONL)
        assert (answer.status_code, answer.json()["code"]) == (409, "id_taken")
        assert "acme.batch" not in answer.text
    get = gateway.client().get("/v1/batches/same").json()
    assert get["request_counts"]["total"] == 40


def test_without_room_it_says_under_which_id_to_go_on(
    start_gateway: Start, finish: Finish, redis_url: str
) -> None:
    gateway = start_gateway(BLIPLINE_MAX_QUEUED_BULK="64", BLIPLINE_GATEWAY_UPLOAD_WAIT_S="1")
    post = gateway.client().post
    answer = post("/v1/batches", content=body_of(90), headers=JSONL)
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert int(answer.headers["Retry-After"]) > 0
    (batch,) = re.findall(r"id=(\S+)", answer.json()["detail"])
    assert "64 items are in" in answer.json()["detail"]
    for number in (0, 1):
        finish(f"acme.batch.{batch}:{number}", answers_of(number, 90))
    answer = post(f"/v1/batches?id={batch}", content=body_of(90), headers=JSONL)
    assert (answer.status_code, answer.json()["request_counts"]["total"]) == (202, 90)


def test_one_name_cannot_take_all_slots() -> None:
    slots = UploadSlots()
    mine = [slots.acquire("acme") for _ in range(MAX_TENANT_UPLOADS)]
    for slot in mine:
        slot.__enter__()
    with pytest.raises(Problem) as refusal, slots.acquire("acme"):
        pass
    assert (refusal.value.code, "Retry-After" in (refusal.value.headers or {})) == (
        "queue_full",
        True,
    )
    with slots.acquire("other"):
        mine[0].__exit__(None, None, None)
    with slots.acquire("acme"):
        pass


# Parts


def test_inflated_pieces_are_small_whatever_is_in_them() -> None:
    packed = gzip.compress(bytes(10_000_000))
    pieces = list(inflate(iter([packed[:7], b"", packed[7:]]), 10_000_000))
    assert b"".join(pieces) == bytes(10_000_000)
    assert max(map(len, pieces)) <= PIECE_BYTES
    with pytest.raises(Problem) as refusal:
        list(inflate(iter([packed]), 9_999_999))
    assert refusal.value.code == "body_too_large"


def test_gzip_may_be_cut_anywhere() -> None:
    members = b"".join(gzip.compress(b"%d," % number) for number in range(20)) + bytes(9)
    by_byte: Iterator[bytes] = (members[at : at + 1] for at in range(len(members)))
    assert b"".join(inflate(by_byte, 1000)) == b"".join(b"%d," % n for n in range(20))


def test_whoever_says_nothing_is_not_waited_for() -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield b"begun"
        await asyncio.sleep(3600)

    async def read() -> list[bytes]:
        return [piece async for piece in with_idle_timeout(silent(), 0.05)]

    with pytest.raises(Problem) as refusal:
        asyncio.run(read())
    assert refusal.value.code == "request_timeout"
