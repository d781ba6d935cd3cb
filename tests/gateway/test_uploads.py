"""Formats, limits and slots of batch uploads."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator

import pytest
import redis

from producer import Client
from producer.gateway.http.problems import Problem
from producer.gateway.images.uploads import MAX_TENANT_UPLOADS, PIECE_BYTES, UploadSlots, inflate

from .conftest import Reached, Run, Start
from .samples import JSONL, URL, batches_in, body_of, items_in, resident_mb

FORM = {"Content-Type": "multipart/form-data; boundary=xx"}
PART = b'--xx\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
END = b"--xx--\r\n"
GZ = gzip.compress(body_of(3), mtime=0)


def form(*parts: tuple[bytes, bytes]) -> bytes:
    return b"".join(PART % name + value + b"\r\n" for name, value in parts) + END


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
def test_all_formats_of_an_upload_are_read(
    gateway: Reached, redis_url: str, body: bytes, headers: dict[str, str]
) -> None:
    answer = gateway.client().post("/v1/batches?id=ways", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == "/v1/batches/ways"
    assert items_in(redis_url, "ways") == [
        {"custom_id": str(number), "image": URL} for number in range(3)
    ]


@pytest.mark.parametrize(
    ("status", "body", "headers", "expected"),
    [
        (422, b"", JSONL, "no items"),
        (422, b"\n \n", JSONL, "no items"),
        (400, GZ[:-6], {**JSONL, "Content-Encoding": "gzip"}, "truncated"),
        (400, GZ + b"x", JSONL, "gzip"),
        (400, b"\x1f\x8bno", JSONL, "gzip"),
        (400, body_of(3), {**JSONL, "Content-Encoding": "gzip"}, "gzip"),
        (415, body_of(3), {**JSONL, "Content-Encoding": "br"}, "br"),
        (415, GZ, {**FORM, "Content-Encoding": "gzip"}, "not the form itself"),
        (415, body_of(3), {"Content-Type": "text/html"}, "application/jsonl"),
        (400, body_of(3), {"Content-Type": "multipart/form-data"}, "boundary"),
        (400, b"no form at all", FORM, "multipart"),
        (400, form((b"file", body_of(3)))[:-4], FORM, "truncated"),
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
def test_an_invalid_body_creates_no_batch(
    gateway: Reached,
    connection: redis.Redis,
    status: int,
    body: bytes,
    headers: dict[str, str],
    expected: str,
) -> None:
    answer = gateway.client().post("/v1/batches", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert expected in answer.json()["detail"]
    assert "acme.batch" not in answer.text
    assert batches_in(connection) == []


def test_form_fields_equal_query_parameters(gateway: Reached, client: Client) -> None:
    fields = {"task": "vqa", "id": "fields", "keep_s": "60", "max_new_tokens": "5"}
    post = gateway.client().post
    answer = post("/v1/batches", data=fields, files={"file": ("a.jsonl", body_of(1))})
    assert (answer.status_code, answer.json()["task"]) == (202, "vqa")
    twice = post("/v1/batches?task=vqa", data=fields, files={"file": ("a.jsonl", body_of(1))})
    assert (twice.status_code, twice.json()["detail"][:5]) == (422, "task:")
    invalid = post("/v1/batches", data={"keep_s": "-1"}, files={"file": ("a.jsonl", body_of(1))})
    assert (invalid.status_code, invalid.json()["detail"][:6]) == (422, "keep_s")


def test_an_invalid_line_becomes_an_error_of_its_item(gateway: Reached, redis_url: str) -> None:
    pixel = "data:image/png;base64,AAAA"
    lines = [{"image": "/etc/passwd"}, {"image": pixel}, {"image": ["x"]}, {"image": URL}]
    body = "\n".join([*map(json.dumps, lines), "{", ""]).encode()
    answer = gateway.client().post("/v1/batches?id=lines", content=body, headers=JSONL)
    assert answer.json()["request_counts"]["total"] == 5
    path, data, listed, good, broken = items_in(redis_url, "lines")
    assert [body["error"]["code"] for body in (path, listed)] == ["image_invalid"] * 2
    assert data["image"].startswith("blob:")
    assert good["image"] == URL
    assert "line 5" in broken["error"]["message"]


def test_a_gzip_bomb_is_rejected_at_the_limit(
    start_gateway: Start, connection: redis.Redis
) -> None:
    gateway = start_gateway(BLIPLINE_GATEWAY_MAX_BODY_MB="8")
    post = gateway.client().post
    post("/v1/batches", content=body_of(1), headers=JSONL)
    before = resident_mb(gateway.process.pid)
    pack = zlib.compressobj(wbits=31)
    bomb = b"".join(pack.compress(bytes(2**20)) for _ in range(200)) + pack.flush()
    headers = {**JSONL, "Content-Encoding": "gzip"}
    for body in (bomb, gzip.compress(bomb)):
        answer = post("/v1/batches?id=bomb", content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert "MAX_BODY_MB" in answer.json()["detail"]
    assert resident_mb(gateway.process.pid, peak=True) < before + 60
    assert batches_in(connection) == [key for key in batches_in(connection) if b"bomb" not in key]


def test_the_lines_of_a_batch_are_limited(run_gateway: Run, connection: redis.Redis) -> None:
    post = run_gateway(BLIPLINE_GATEWAY_MAX_ITEMS="100").client().post
    assert post("/v1/batches?id=fits", content=body_of(100), headers=JSONL).status_code == 202
    known = batches_in(connection)
    for body in (body_of(5000), body_of(1) + b"\n" * 200):
        answer = post("/v1/batches", content=body, headers=JSONL)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert "MAX_ITEMS" in answer.json()["detail"]
    assert batches_in(connection) == known


def test_a_tenant_cannot_occupy_all_slots() -> None:
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


def test_inflated_pieces_have_a_bounded_size() -> None:
    packed = gzip.compress(bytes(10_000_000))
    pieces = list(inflate(iter([packed[:7], b"", packed[7:]]), 10_000_000))
    assert b"".join(pieces) == bytes(10_000_000)
    assert max(map(len, pieces)) <= PIECE_BYTES
    with pytest.raises(Problem) as refusal:
        list(inflate(iter([packed]), 9_999_999))
    assert refusal.value.code == "body_too_large"


def test_a_gzip_stream_can_be_split_anywhere() -> None:
    members = b"".join(gzip.compress(b"%d," % number) for number in range(20)) + bytes(9)
    by_byte: Iterator[bytes] = (members[at : at + 1] for at in range(len(members)))
    assert b"".join(inflate(by_byte, 1000)) == b"".join(b"%d," % n for n in range(20))
