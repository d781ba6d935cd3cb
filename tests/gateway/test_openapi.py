"""The description of the HTTP interface: complete, and kept to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import jsonschema_rs
import pytest
import redis

from demo.stack import ROOT
from producer.gateway.app import create_app
from producer.gateway.problems import STATUS
from producer.gateway.settings import GatewaySettings
from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger
from tests.conftest import Finish

from .conftest import Reached, Start

GUIDE: Final = (ROOT / "docs" / "http.md").read_text()


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return create_app(GatewaySettings()).openapi()


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_has_an_id_a_summary_and_a_tag(schema: dict[str, Any]) -> None:
    found = [operation for _, operation in operations(schema)]
    ids = [operation["operationId"] for operation in found]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in ids), ids
    tags = {tag["name"] for tag in schema["tags"]}
    for operation in found:
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags
    assert all(re.fullmatch(r"[\w.-]+", name) for name in schema["components"]["securitySchemes"])


def test_every_request_and_every_answer_has_an_example(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        for part in (operation.get("requestBody", {}), *operation["responses"].values()):
            for kind, content in part.get("content", {}).items():
                has = {"example", "examples"} & set(content)
                assert has or kind.startswith("image/") or "binary" in str(content), (name, kind)


def test_examples_are_what_their_schema_says(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        for part in (operation.get("requestBody", {}), *operation["responses"].values()):
            for kind, content in part.get("content", {}).items():
                if kind == "text/event-stream":
                    # The example is a stream, the schema that of an event.
                    continue
                examples = [one["value"] for one in content.get("examples", {}).values()]
                examples += [content["example"]] if "example" in content else []
                rules = {**content["schema"], "components": schema["components"]}
                for example in examples:
                    found = jsonschema_rs.Draft202012Validator(rules).iter_errors(example)
                    assert not list(found), (name, kind)


def test_what_needs_a_key_says_so_and_what_it_may_refuse_with(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        guarded = " /v1/" in name
        assert bool(operation.get("security")) == guarded, name
        if guarded:
            assert {"401", "429", "500", "503"} <= set(operation["responses"]), name
        for status, answer in operation["responses"].items():
            assert status < "400" or list(answer["content"]) == ["application/problem+json"], name


def test_the_guide_names_every_route(schema: dict[str, Any]) -> None:
    for name, _ in operations(schema):
        assert f"`{name}`" in GUIDE, name
    for name in re.findall(r"`((?:GET|PUT|POST|DELETE) /[^`]*)`", GUIDE):
        method, path = name.split()
        # The description does not describe itself.
        known = {**schema["paths"], "/openapi.json": {"get": {}}}
        assert method.lower() in known.get(path, {}), name


def test_the_guide_has_every_code_with_its_status() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", GUIDE, re.MULTILINE)
    assert {code: int(status) for code, status in rows} == {
        str(code): status for code, (status, _) in STATUS.items()
    }


def test_without_a_key_nothing_is_answered(gateway: Reached, schema: dict[str, Any]) -> None:
    with httpx.Client(base_url=gateway.url) as http:
        for name, _ in operations(schema):
            method, path = name.split()
            if path.startswith("/v1"):
                answer = http.request(method, path.replace("{id}", "photos"))
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
                assert answer.headers["WWW-Authenticate"] == "Bearer"


#: What is not as schemathesis expects, and why.
CONFIG: Final = """
# A PUT has the same body as a POST: what is wrong with it is tried there.
[[operations]]
include-name = "PUT /v1/jobs/{id}"
phases.coverage.enabled = false

[checks]
# What is far too long is not even read.
negative_data_rejection.expected-statuses = [400, 401, 404, 405, 409, 413, 415, 422]
"""


def ends(connection: redis.Redis, finish: Finish) -> None:
    """End every job that is open, each in the way of its task, and some with an error."""
    ledger = Ledger(connection)
    open_ids = [name.decode() for name in connection.zrange(Keys().open, 0, -1)]
    for row in ledger.records(open_ids):
        if row is None:
            continue
        asked = json.loads(row.payload)
        finish(row.id, [result(asked["task"], item) for item in asked["items"]])


def result(task: str, item: dict[str, Any]) -> dict[str, Any]:
    task = item.get("task") or task
    known = {"custom_id": item["custom_id"]} if "custom_id" in item else {}
    if error := item.get("error"):
        return known | {"error": error}
    if len(str(item)) % 5 == 0:
        return known | {"error": {"code": "image_unreachable", "message": "404"}}
    if task == "embed":
        return known | {"embedding": [0.6, 0.8]}
    if task == "match":
        matches = [{"text": str(text), "probability": 1.0, "cosine": 0.1} for text in "ab"]
        return known | {"text": "a", "matches": matches}
    return known | {"text": "a cat"}


@contextmanager
def a_worker(connection: redis.Redis, finish: Finish) -> Iterator[None]:
    """Everything ends soon, so nobody waits for ever."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            ends(connection, finish)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.timeout(300)
def test_what_it_answers_is_what_it_describes(
    start_gateway: Start, connection: redis.Redis, finish: Finish, tmp_path: Path
) -> None:
    """schemathesis: requests that fit the description, and others that do not."""
    started = start_gateway(BLIPLINE_GATEWAY_MAX_WAIT_S="0", BLIPLINE_GATEWAY_UPLOAD_WAIT_S="1")
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{started.url}/openapi.json"),
        *("--header", f"Authorization: {started.headers('acme')['Authorization']}"),
        # DELETE cancels a job, which is there all the same.
        *(
            "--checks",
            "all",
            "--exclude-checks",
            "use_after_free",
            "--phases",
            "examples,coverage,fuzzing,stateful",
        ),
        *("--seed", "7", "--max-examples", "10", "--no-shrink", "--generation-database", "none"),
        *("--workers", "1"),
        *("--suppress-health-check", "all", "--request-timeout", "20", "--no-color"),
    ]
    # Its own settings file is nobody's but this test's.
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.gateway.api_formats"}
    environment |= {"PYTHONPATH": str(ROOT), "COLUMNS": "150"}
    with a_worker(connection, finish):
        run = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
        )
    told = [line[:300] for line in f"{run.stdout}\n{run.stderr}".splitlines() if line.strip()]
    assert run.returncode == 0, "\n".join(told[-200:])
    assert '"level": "error"' not in started.output()
