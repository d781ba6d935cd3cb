"""Asking a whole batch again takes long: it is done once, and holds up nobody."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from producer import Client
from producer import batch as batches
from producer.contract import Task
from producer.gateway.app import create_app
from producer.gateway.metadata import RequestMetadata
from producer.gateway.settings import GatewaySettings

from .conftest import Serve, _Kept
from .samples import bearer

#: More than there are threads of any kind for calls.
MANY = 12


def test_many_that_retry_wait_for_one_and_hold_up_nobody(
    served: Serve,
    redis_url: str,
    kept_keys: _Kept,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go, asked = threading.Event(), list[str]()

    def retry_items(ledger: Any, task_ids: Any, unwanted: Any) -> int:
        asked.append("again")
        assert go.wait(30)
        return 7

    monkeypatch.setattr(batches, "retry_items", retry_items)
    kept_keys.restore(redis_url)
    note = RequestMetadata.now(Task.CAPTION).encode()
    names = [f"batch-{number}" for number in range(MANY)]
    for name in names:
        client.submit_batch([], batch_id=f"acme.batch.{name}", note=note)
    app = create_app(GatewaySettings(redis_url=redis_url, gateway_rate=0))
    retries, came = app.state.gateway.retries, threading.Semaphore(0)
    get = retries.get

    async def counted(*args: Any) -> int:
        came.release()
        return int(await get(*args))

    monkeypatch.setattr(retries, "get", counted)
    headers = bearer(kept_keys.of_names["acme"])
    with (
        served(app) as url,
        httpx.Client(base_url=url, headers=headers, timeout=60) as http,
        ThreadPoolExecutor(2 * MANY) as threads,
    ):
        try:
            # Each twice.
            answers = [threads.submit(http.post, f"/v1/batches/{name}/retry") for name in names * 2]
            for _ in answers:
                assert came.acquire(timeout=30)
            assert http.get("/v1/queues", timeout=20).status_code == 200
        finally:
            go.set()
        assert [answer.result().json() for answer in answers] == [{"items": 7}] * (2 * MANY)
    assert len(asked) == MANY
