"""The examples of the OpenAPI description, run as they are."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from producer.gateway.jobs.task_routes import ROUTES
from producer.gateway.openapi.openapi_bodies import EXAMPLE_LINES
from producer.gateway.schemas.requests import REQUEST_MODELS
from producer.gateway.schemas.task_fields import TASK_MODELS


@pytest.mark.parametrize("task", REQUEST_MODELS)
def test_the_example_of_a_task_is_answered(gateway: httpx.Client, task: str) -> None:
    schema: dict[str, Any] = REQUEST_MODELS[task].model_json_schema()
    (example,) = schema["examples"]
    job = gateway.post("/v1/jobs", json=example, headers={"Prefer": "wait=60"}).json()
    assert (job["status"], job["error"]) == ("done", None)


@pytest.mark.parametrize("route", ROUTES)
def test_the_example_of_a_route_of_one_request_is_answered(
    gateway: httpx.Client, route: str
) -> None:
    schema: dict[str, Any] = TASK_MODELS[ROUTES[route]].model_json_schema()
    (example,) = schema["examples"]
    response = gateway.post(f"/v1/{route}", json=example)
    assert response.status_code == 200
    job = response.json()
    assert (job["status"], job["error"]) == ("done", None)
    assert job["output"]


def test_the_example_of_a_batch_is_answered(gateway: httpx.Client) -> None:
    headers = {"Content-Type": "application/jsonl"}
    batch = gateway.post("/v1/batches", content=EXAMPLE_LINES, headers=headers).json()
    results = gateway.get(f"/v1/batches/{batch['id']}/results", params={"wait": True})
    assert results.text.count('"text":') == 2
