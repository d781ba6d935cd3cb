"""The examples of the OpenAPI description, run as they are."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from producer.gateway.openapi.openapi_bodies import EXAMPLE_LINES
from producer.gateway.schemas.requests import REQUEST_MODELS


@pytest.mark.parametrize("task", REQUEST_MODELS)
def test_the_example_of_a_task_is_answered(gateway: httpx.Client, task: str) -> None:
    schema: dict[str, Any] = REQUEST_MODELS[task].model_json_schema()
    (example,) = schema["examples"]
    job = gateway.post("/v1/jobs", json=example, headers={"Prefer": "wait=60"}).json()
    assert (job["status"], job["error"]) == ("done", None)


def test_the_example_of_a_batch_is_answered(gateway: httpx.Client) -> None:
    headers = {"Content-Type": "application/jsonl"}
    batch = gateway.post("/v1/batches", content=EXAMPLE_LINES, headers=headers).json()
    results = gateway.get(f"/v1/batches/{batch['id']}/results", params={"wait": True})
    assert results.text.count('"text":') == 2
