"""Redis goes away when something is in, and before its caller was told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from producer.aio.client import AsyncBatch, AsyncJob
from producer.errors import ConnectionFailed
from producer.gateway.app import create_app
from producer.gateway.settings import GatewaySettings

from .conftest import Serve, _Kept
from .samples import CAPTION, JSONL, bearer, body_of


@pytest.fixture
def blind(
    served: Serve, redis_url: str, kept_keys: _Kept, monkeypatch: pytest.MonkeyPatch
) -> Iterator[httpx.Client]:
    """A client of a gateway that can submit, and look at nothing."""

    async def away(*_: Any) -> None:
        raise ConnectionFailed("away")

    monkeypatch.setattr(AsyncJob, "look", away)
    monkeypatch.setattr(AsyncBatch, "progress", away)
    kept_keys.restore(redis_url)
    headers = bearer(kept_keys.of_names["acme"])
    settings = GatewaySettings(redis_url=redis_url, gateway_rate=0)
    with served(create_app(settings)) as url, httpx.Client(base_url=url, headers=headers) as http:
        yield http


def test_of_a_job_that_is_in_its_caller_hears_the_id(blind: httpx.Client) -> None:
    answer = blind.post("/v1/jobs", json=CAPTION, headers={"Prefer": "wait=5"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"


def test_of_a_batch_that_is_in_its_caller_hears_the_id(blind: httpx.Client) -> None:
    answer = blind.post("/v1/batches", content=body_of(70), headers=JSONL)
    assert answer.status_code == 202, answer.text
    said = answer.json()
    assert (said["status"], said["submitted"], said["task"]) == ("queued", True, "caption")
    assert said["request_counts"] == {"total": 70, "completed": 0, "failed": 0}
    assert answer.headers["Location"] == f"/v1/batches/{said['id']}"
