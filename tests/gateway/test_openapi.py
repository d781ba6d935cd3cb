"""The OpenAPI description: complete, and true of the responses."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import jsonschema_rs
import pytest
import redis

from demo.stack import ROOT
from producer.gateway.app import create_app
from producer.gateway.http.problems import STATUS
from producer.gateway.settings import GatewaySettings
from tests.conftest import Finish

from .conftest import Reached, Run
from .fake_worker import output_of, running_fake_worker

GUIDE: Final = (ROOT / "docs" / "http.md").read_text()


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return create_app(GatewaySettings.load()).openapi()


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_has_an_id_a_summary_and_a_tag(schema: dict[str, Any]) -> None:
    all_operations = [operation for _, operation in operations(schema)]
    ids = [operation["operationId"] for operation in all_operations]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in ids), ids
    tags = {tag["name"] for tag in schema["tags"]}
    for operation in all_operations:
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags
    assert all(re.fullmatch(r"[\w.-]+", name) for name in schema["components"]["securitySchemes"])


def test_every_request_and_response_has_an_example(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        for part in (operation.get("requestBody", {}), *operation["responses"].values()):
            for kind, content in part.get("content", {}).items():
                names = {"example", "examples"} & set(content)
                assert names or kind.startswith("image/") or "binary" in str(content), (name, kind)


def test_examples_match_their_schema(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        for part in (operation.get("requestBody", {}), *operation["responses"].values()):
            for kind, content in part.get("content", {}).items():
                if kind == "text/event-stream":
                    # The example is a stream, the schema describes an event.
                    continue
                examples = [named["value"] for named in content.get("examples", {}).values()]
                examples += [content["example"]] if "example" in content else []
                rules = {**content["schema"], "components": schema["components"]}
                for example in examples:
                    all_operations = jsonschema_rs.Draft202012Validator(rules).iter_errors(example)
                    assert not list(all_operations), (name, kind)


def test_protected_operations_describe_security_and_errors(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        protected = " /v1/" in name
        assert bool(operation.get("security")) == protected, name
        if protected:
            assert {"401", "429", "500", "503"} <= set(operation["responses"]), name
        for status, answer in operation["responses"].items():
            assert status < "400" or list(answer["content"]) == ["application/problem+json"], name


def test_the_guide_names_every_route(schema: dict[str, Any]) -> None:
    for name, _ in operations(schema):
        assert f"`{name}`" in GUIDE, name
    for name in re.findall(r"`((?:GET|PUT|POST|DELETE) /[^`]*)`", GUIDE):
        method, path = name.split()
        # The description contains neither its own route nor the page that shows it.
        known = {**schema["paths"], "/openapi.json": {"get": {}}, "/docs": {"get": {}}}
        assert method.lower() in known.get(path, {}), name


def test_the_guide_lists_every_code_with_its_status() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", GUIDE, re.MULTILINE)
    assert {code: int(status) for code, status in rows} == {
        str(code): status for code, (status, _) in STATUS.items()
    }


def test_no_operation_works_without_a_key(gateway: Reached, schema: dict[str, Any]) -> None:
    with httpx.Client(base_url=gateway.url) as http:
        for name, _ in operations(schema):
            method, path = name.split()
            if path.startswith("/v1"):
                answer = http.request(method, path.replace("{id}", "photos"))
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
                assert answer.headers["WWW-Authenticate"] == "Bearer"


#: Differences from the expectations of schemathesis.
CONFIG: Final = """
# A PUT has the same body as a POST, which covers invalid ones.
[[operations]]
include-name = "PUT /v1/jobs/{id}"
phases.coverage.enabled = false

# Lines have a strategy of their own, beside which schemathesis does not serialize examples.
[[operations]]
include-name = "POST /v1/batches"
phases.examples.enabled = false

# Seven routes with the same five bodies; tests/gateway/test_task_routes.py covers invalid fields. A
# query parameter accompanies only the bytes of an image, and some are required then.
[[operations]]
include-tag = "tasks"
phases.coverage.enabled = false
generation.max-examples = 2
checks.positive_data_acceptance.expected-statuses = ["2xx", 409, 422]
checks.negative_data_rejection.enabled = false

{sample}
[checks]
# Bodies above the limit are rejected before they are parsed.
negative_data_rejection.expected-statuses = [400, 401, 404, 405, 409, 413, 415, 422]
"""

#: Of the five routes with a form, the sample draws random bodies for one: the strategies of each
#: take three seconds to build.
SAMPLE: Final = """
[[operations]]
include-path = ["/v1/capfilt", "/v1/chat", "/v1/embed", "/v1/match"]
phases.fuzzing.enabled = false
"""


def answer(task: str, item: dict[str, Any]) -> dict[str, Any]:
    """Return an output, or for some items an error."""
    if len(str(item)) % 5 == 0:
        return {"error": {"code": "image_unreachable", "message": "404"}}
    return output_of(task, item)


@pytest.mark.timeout(900)  # a minute of processor time, which a busy machine stretches
def test_responses_match_the_description(
    run_gateway: Run,
    caplog: pytest.LogCaptureFixture,
    connection: redis.Redis,
    finish: Finish,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Run schemathesis, with valid and invalid requests."""
    gateway = run_gateway(
        BLIPLINE_GATEWAY_MAX_WAIT_S="0",
        BLIPLINE_GATEWAY_UPLOAD_WAIT_S="1",
        BLIPLINE_WEBHOOK_ALLOW="127.0.0.1,localhost,::1",
    )
    is_exhaustive = request.config.getoption("exhaustive")
    sample = "" if is_exhaustive else SAMPLE
    (tmp_path / "schemathesis.toml").write_text(CONFIG.replace("{sample}", sample))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"),
        *("--header", f"Authorization: {gateway.headers('acme')['Authorization']}"),
        # DELETE cancels a job, which still exists afterwards.
        *(
            "--checks",
            "all",
            "--exclude-checks",
            "use_after_free",
            "--phases",
            "examples,coverage,fuzzing,stateful",
        ),
        *("--seed", "7", "--max-examples", "20" if is_exhaustive else "2"),
        *("--no-shrink", "--generation-database", "none"),
        *("--workers", "1"),
        *("--suppress-health-check", "all", "--request-timeout", "20", "--no-color"),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.gateway.api_formats"}
    environment |= {"PYTHONPATH": str(ROOT), "COLUMNS": "150"}
    with running_fake_worker(connection, finish, answer):
        run = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=880
        )
    output = [line[:300] for line in f"{run.stdout}\n{run.stderr}".splitlines() if line.strip()]
    assert run.returncode == 0, "\n".join(output[-200:])
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
