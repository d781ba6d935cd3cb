"""Redis fails between a submission and its response."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from producer.aio.handles import AsyncBatch, AsyncJob
from producer.errors import ConnectionFailed
from producer.gateway.app import create_app
from producer.gateway.settings import GatewaySettings

from .conftest import Serve, StoredKeys
from .samples import CAPTION, JSONL, bearer, body_of


@pytest.fixture
def http(
    served: Serve, redis_url: str, stored_keys: StoredKeys, monkeypatch: pytest.MonkeyPatch
) -> Iterator[httpx.Client]:
    """Yield a client of a gateway that can submit but not read."""

    async def fail(*_: Any) -> None:
        raise ConnectionFailed("down")

    monkeypatch.setattr(AsyncJob, "progress", fail)
    monkeypatch.setattr(AsyncBatch, "progress", fail)
    stored_keys.restore(redis_url)
    headers = bearer(stored_keys.by_name["acme"])
    settings = GatewaySettings.load(redis_url=redis_url, gateway_rate=0)
    with served(create_app(settings)) as url, httpx.Client(base_url=url, headers=headers) as http:
        yield http


def test_the_id_of_a_submitted_job_is_returned_despite_an_outage(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", json=CAPTION, headers={"Prefer": "wait=5"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"


def test_the_id_of_a_submitted_batch_is_returned_despite_an_outage(http: httpx.Client) -> None:
    answer = http.post("/v1/batches", content=body_of(70), headers=JSONL)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["status"], body["submitted"], body["task"]) == ("queued", True, "caption")
    assert body["request_counts"] == {"total": 70, "completed": 0, "failed": 0}
    assert answer.headers["Location"] == f"/v1/batches/{body['id']}"
