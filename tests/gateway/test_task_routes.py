"""Routes of one task: the image in each kind of body, the fields beside it, and the wait."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import pytest
import redis

from demo.stack import ROOT
from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger
from tests.conftest import Finish

from .conftest import Reached, Run
from .fake_worker import output_of, running_fake_worker
from .samples import DESCRIPTION, FILTERED, URL

GUIDE: Final = (ROOT / "docs" / "http.md").read_text()
PNG: Final = b"\x89PNG\r\n\x1a\n the bytes of an image"
BLOB: Final = f"blob:{hashlib.sha256(PNG).hexdigest()}"
DATA_URL: Final = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
HISTORY: Final = [{"question": "what is it?", "answer": "a cat"}]
NOW: Final = {"Prefer": "wait=0"}

#: Route, its fields, the item of the contract without its image, and the options.
CASES: Final[list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]]] = [
    ("caption", {"prompt": "a"}, {"prompt": "a"}, {}),
    ("caption", {"prompt": "", "seed": 7}, {"prompt": ""}, {"seed": 7}),
    (
        "ask",
        {"question": "ünï & +?", "temperature": 0.5, "num_beams": 2, "early_stopping": True},
        {"question": "ünï & +?"},
        {"temperature": 0.5, "num_beams": 2, "early_stopping": True},
    ),
    (
        "chat",
        {"question": "which?", "history": HISTORY, "top_k": 3},
        {"question": "which?", "history": HISTORY},
        {"top_k": 3},
    ),
    ("match", {"texts": ["a cat", "a, dog"]}, {"texts": ["a cat", "a, dog"]}, {}),
    ("match", {"texts": ["a cat"]}, {"texts": ["a cat"]}, {}),
    ("embed", {}, {}, {}),
    (
        "describe",
        {"prompts": ["", "a"], "detail": "low"},
        {"prompts": ["", "a"], "detail": "low"},
        {},
    ),
    (
        "capfilt",
        {"texts": ["a"], "captions": 2, "threshold": 0.25, "synthetic_threshold": 1},
        {"texts": ["a"], "captions": 2, "threshold": 0.25, "synthetic_threshold": 1.0},
        {},
    ),
    ("caption", {"adapter": "red"}, {"adapter": "red"}, {}),
]


def as_texts(fields: dict[str, Any]) -> dict[str, str | list[str]]:
    """Return fields as the texts of a query or a form."""
    return {name: text_of(value) for name, value in fields.items()}


def text_of(value: Any) -> str | list[str]:
    if isinstance(value, str) or (isinstance(value, list) and isinstance(value[0], str)):
        return value
    return json.dumps(value)


def as_json(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields as /v1/jobs accepts them, with nested options."""
    names = {"seed", "temperature", "num_beams", "early_stopping", "top_k"}
    options = {name: value for name, value in fields.items() if name in names}
    plain = {name: value for name, value in fields.items() if name not in names}
    return plain | ({"options": options} if options else {})


def requests_of(fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the same request in every form, with the bytes of the image."""
    texts = as_texts(fields)
    for kind in ("image/png", "application/octet-stream", "application/x-www-form-urlencoded", ""):
        yield {"content": PNG, "params": texts, "headers": {"Content-Type": kind}}
    for name in ("file", "image"):
        yield {"files": {name: ("cat.png", PNG, "image/png")}, "data": texts}
    # The file comes first, the fields partly in the query.
    parts: list[tuple[str, tuple[str | None, bytes]]] = [("file", ("cat.png", PNG))]
    rest = dict(list(texts.items())[1:])
    for name, value in list(texts.items())[:1]:
        values = value if isinstance(value, list) else [value]
        parts += [(name, (None, text.encode())) for text in values]
    yield {"files": parts, "params": rest}
    for image in (DATA_URL, base64.encodebytes(PNG).decode()):
        yield {"json": {"image": image, **as_json(fields)}}
        yield {"files": [("image", (None, image.encode()))], "params": texts}
        form = urlencode({"image": image, **texts}, doseq=True)
        yield {"content": form, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    # A command of curl without a content type.
    body = json.dumps({"image": DATA_URL, **as_json(fields)})
    yield {"content": body, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}


@pytest.mark.parametrize(("route", "fields", "item", "options"), CASES)
def test_every_form_of_a_request_is_the_same_job(
    http: httpx.Client,
    connection: redis.Redis,
    route: str,
    fields: dict[str, Any],
    item: dict[str, Any],
    options: dict[str, Any],
) -> None:
    task = "vqa" if route == "ask" else route
    expected = {"task": task, "items": [{"image": BLOB, **item}], "options": options}
    for request in requests_of(fields):
        headers = request.pop("headers", {}) | NOW
        answer = http.post(f"/v1/{route}", headers=headers, **request)
        assert answer.status_code == 202, (request, answer.text)
        (record,) = Ledger(connection).records([f"acme.job.{answer.json()['id']}"])
        assert record is not None
        assert json.loads(record.payload) == expected, request
    assert connection.get(Keys().blob(BLOB.removeprefix("blob:"))) == PNG


@pytest.mark.parametrize(
    ("route", "fields", "output"),
    [
        ("caption", {}, {"text": "a cat"}),
        ("ask", {"question": "what?"}, {"text": "a cat"}),
        ("chat", {"question": "what?"}, {"text": "a cat"}),
        ("match", {"texts": ["a cat"]}, None),
        ("embed", {}, {"embedding": [0.6, 0.8]}),
        ("describe", {}, DESCRIPTION | {"unpolished": None, "warning": None}),
        ("capfilt", {"texts": ["a cat"]}, FILTERED),
    ],
)
def test_the_response_contains_the_output(
    http: httpx.Client,
    connection: redis.Redis,
    finish: Finish,
    route: str,
    fields: dict[str, Any],
    output: dict[str, Any] | None,
) -> None:
    with running_fake_worker(connection, finish):
        answer = http.post(f"/v1/{route}", params=fields, content=PNG)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["task"], body["status"]) == ("vqa" if route == "ask" else route, "done")
    assert body["output"] == (output or output_of(route, {}))
    assert answer.headers["Location"] == body["urls"]["get"]
    assert "Preference-Applied" not in answer.headers
    assert http.get(body["urls"]["get"]).json() == body


def test_the_commands_of_the_guide_print_the_output(
    gateway: Reached, connection: redis.Redis, finish: Finish, tmp_path: Path
) -> None:
    section = GUIDE.partition("## One request")[2]
    (commands,) = re.findall(r"```sh\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    script = commands.replace("http://127.0.0.1:8000", gateway.url).replace(
        "curl ", "curl -sS -w '\\n' "
    )
    (tmp_path / "cat.jpg").write_bytes(PNG * 99)
    environment = {"PATH": os.environ["PATH"], "KEY": gateway.keys["acme"]}
    with running_fake_worker(connection, finish):
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (0, "")
    jobs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [job["task"] for job in jobs] == [
        *("caption", "vqa", "match", "chat", "describe", "embed", "capfilt", "caption")
    ]
    assert all(job["status"] == "done" for job in jobs)


def test_a_failed_job_is_a_response_with_its_error(
    http: httpx.Client, connection: redis.Redis, finish: Finish
) -> None:
    error = {"error": {"code": "image_unreachable", "message": "404"}}
    with running_fake_worker(connection, finish, lambda task, item: error):
        answer = http.post("/v1/caption", json={"image": URL}, headers={"Prefer": "wait=30"})
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")
    assert answer.json()["error"] == error["error"]
    assert answer.headers["Preference-Applied"] == "wait=30"


def test_a_job_that_takes_longer_is_polled(run_gateway: Run) -> None:
    http = run_gateway(BLIPLINE_GATEWAY_MAX_WAIT_S="1").client()
    answer = http.post("/v1/caption", content=PNG)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert http.get(answer.headers["Location"]).json() == answer.json()
    assert answer.headers["Retry-After"] == "1"


def test_an_embedding_of_a_text_needs_no_body(http: httpx.Client, connection: redis.Redis) -> None:
    for request in ({"params": {"text": "a cat"}}, {"data": {"text": "a cat"}}):
        answer = http.post("/v1/embed", headers=NOW, **request)  # type: ignore[arg-type]
        (record,) = Ledger(connection).records([f"acme.job.{answer.json()['id']}"])
        assert record is not None
        assert json.loads(record.payload)["items"] == [{"text": "a cat"}]


@pytest.mark.parametrize(
    ("route", "query", "detail"),
    [
        ("caption", "colour=red", "colour: no such name"),
        ("caption", "caption=red", "caption: no such name"),
        ("caption", "task=vqa", "task: no such name"),
        ("caption", "question=what", "question: no such name"),
        ("caption", "top_k=many", "top_k='many': input should be a valid integer"),
        ("caption", "top_k=1.5", "top_k='1.5': input should be a valid integer"),
        ("caption", "temperature=0.001", "temperature='0.001': must be 0 (greedy) or at least"),
        ("caption", "temperature=nan", "temperature='nan': input should be a finite number"),
        (
            "caption",
            "early_stopping=perhaps",
            "early_stopping.bool='perhaps': input should be a valid",
        ),
        ("caption", "deadline=1", "deadline: no such name"),
        ("caption", "deadline_s=0", "deadline_s='0': input should be greater than 0"),
        ("caption", "seed=1&seed=2", "seed: the request contains this field twice"),
        ("caption", "options=5", "options="),
        ("caption", "options={", "options='{': is not valid JSON"),
        ("caption", "options={}&options={}", "options: the request contains this field twice"),
        ("caption", 'options={"seed":1}&seed=2', "seed: `options` contains this option as well"),
        ("caption", 'options={"seed":1,"seed":1}', "the name occurs twice"),
        ("caption", "options=5&seed=1", "options=5: must be a JSON object"),
        ("caption", f"image={URL}", "image: both the query and the body contain this field"),
        ("caption", "webhook=ftp://secret@a", "webhook="),
        ("ask", "", "question: is missing"),
        ("ask", "question=+", "question=' ': is empty"),
        ("chat", "question=a&history=[", "history='[': is not valid JSON"),
        ("chat", f"question=a&history={'[' * 9000}", "history='[[["),
        ("chat", "question=a&history=7", "history"),
        ("chat", 'question=a&history=[{"question":"a"}]', "history.0.answer: is missing"),
        ("match", "", "texts: is missing"),
        ("match", "texts=a&seed=1", "seed: no such name"),
        ("match", "texts=a&texts=", "texts.1='': string should have at least 1 character"),
        ("match", "&".join(["texts=a"] * 257), "texts"),
        ("embed", "text=a", "pass one of them"),
        ("describe", "detail=huge", "detail='huge'"),
        ("capfilt", "texts=a&captions=17", "captions='17'"),
        ("capfilt", "texts=a&threshold=high", "threshold='high'"),
    ],
)
def test_an_invalid_field_is_named(http: httpx.Client, route: str, query: str, detail: str) -> None:
    answer = http.post(f"/v1/{route}?{query}", content=PNG, headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid"), answer.text
    assert detail in answer.json()["detail"]
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("request_", "status", "detail"),
    [
        ({"json": {}}, 422, "image: is missing"),
        ({"json": []}, 422, "an object"),
        ({"json": {"image": URL, "options": {"top_k": "1"}}}, 422, "options.top_k='1'"),
        ({"json": {"image": URL, "task": "vqa"}}, 422, "task: no such name"),
        ({"json": {"image": URL}, "params": {"seed": 1}}, 422, "seed: a query parameter beside"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "not JSON"),
        ({"content": b'{"image": "a", "image": "b"}'}, 400, "the name occurs twice"),
        ({"content": b"hello", "headers": {"Content-Type": "text/plain"}}, 415, "text/plain"),
        ({"content": PNG, "headers": {"Content-Encoding": "gzip"}}, 415, "uncompressed"),
        ({}, 422, "image: is missing"),
        ({"params": {"image": "cat.png"}}, 422, "is not an image reference"),
        ({"headers": {"Content-Type": "image/png"}}, 422, "The image is empty (0 bytes)"),
        ({"files": {"file": ("cat.png", b"")}}, 422, "The image is empty (0 bytes)"),
        ({"files": {"picture": ("cat.png", PNG)}}, 422, "picture: is not UTF-8"),
        ({"files": {"file": PNG, "image": PNG}}, 422, "file: the form contains 2 files"),
        ({"files": {"file": PNG}, "data": {"image": URL}}, 422, "image: the request contains"),
        ({"files": [("file", PNG)] * 300}, 413, "more than 288 parts"),
        ({"files": {"file": PNG}, "data": {"prompt": "a" * 2**21}}, 413, "1,048,576 bytes"),
        ({"content": b"image=%ff"}, 400, "URL encoding"),
        ({"content": b"image=\xff"}, 400, "URL encoding"),
        ({"content": b"image=a&prompt=" + b"a" * 2**21}, 413, "1,048,576 bytes"),
        ({"content": b"image=a" + b"&a=a" * 300}, 400, "URL encoding"),
        (
            {"content": b"--x", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            400,
            "truncated",
        ),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        ({"json": {"image": DATA_URL + " x"}}, 422, "spaces"),
    ],
    ids=range(25),
)
def test_an_invalid_body_is_rejected(
    http: httpx.Client, request_: dict[str, Any], status: int, detail: str
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if "content" in request_ else {}
    headers |= request_.pop("headers", {})
    answer = http.post("/v1/caption", headers=headers, **request_)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]


def test_the_size_of_an_image_is_limited_in_every_body(run_gateway: Run) -> None:
    http = run_gateway(BLIPLINE_GATEWAY_MAX_IMAGE_MB="1", BLIPLINE_GATEWAY_MAX_WAIT_S="0").client()
    largest = PNG.ljust(2**20)
    for data, status in ((largest, 202), (largest + b"x", 413)):
        encoded = base64.b64encode(data).decode()
        for request in (
            {"content": data},
            {"files": {"file": data}, "data": {"prompt": "a"}},
            {"files": {"image": (None, encoded)}},
            {"json": {"image": encoded}},
            {"json": {"image": f"data:image/png;base64,{encoded}"}},
            {"data": {"image": encoded}},
        ):
            answer = http.post("/v1/caption", **request)
            assert answer.status_code == status, answer.text
            assert status == 202 or re.match("(image|body)_too_large", answer.json()["code"])


def test_private_images_of_a_form_can_be_denied(run_gateway: Run) -> None:
    http = run_gateway(BLIPLINE_GATEWAY_PRIVATE_IMAGES="false").client()
    for request in ({"data": {"image": "file:cat.png"}}, {"params": {"image": "s3://a/b"}}):
        answer = http.post("/v1/caption", **request)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (422, "image_blocked")


def test_requests_need_a_key_and_count(run_gateway: Run) -> None:
    started = run_gateway(BLIPLINE_GATEWAY_RATE="2", BLIPLINE_GATEWAY_MAX_WAIT_S="0")
    assert started.client(None).post("/v1/caption", content=PNG).status_code == 401
    http = started.client()
    statuses = [http.post("/v1/caption", content=PNG) for _ in range(3)]
    assert [answer.status_code for answer in statuses] == [202, 202, 429]
    assert int(statuses[2].headers["Retry-After"]) > 0
    assert 'route="/v1/caption",status="202"} 2.0' in http.get("/metrics").text
