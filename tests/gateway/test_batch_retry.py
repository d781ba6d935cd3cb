"""Retries of a batch take long: simultaneous ones share one run and do not block others."""

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
from producer.gateway.schemas.metadata import RequestMetadata
from producer.gateway.settings import GatewaySettings

from .conftest import Serve, StoredKeys
from .samples import bearer

#: More than the threads of any pool for calls.
MANY = 12


def test_simultaneous_retries_share_one_run_and_block_nothing(
    served: Serve,
    redis_url: str,
    stored_keys: StoredKeys,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go, runs = threading.Event(), list[str]()

    def retry_items(ledger: Any, task_ids: Any, unwanted: Any) -> int:
        runs.append("again")
        assert go.wait(30)
        return 7

    monkeypatch.setattr(batches, "retry_items", retry_items)
    stored_keys.restore(redis_url)
    note = RequestMetadata.now(Task.CAPTION).encode()
    names = [f"batch-{number}" for number in range(MANY)]
    for name in names:
        client.submit_batch([], batch_id=f"acme.batch.{name}", note=note)
    app = create_app(GatewaySettings.load(redis_url=redis_url, gateway_rate=0))
    retries, arrived = app.state.gateway.batch_retries, threading.Semaphore(0)
    get = retries.get

    async def counted(*args: Any) -> int:
        arrived.release()
        return int(await get(*args))

    monkeypatch.setattr(retries, "get", counted)
    headers = bearer(stored_keys.by_name["acme"])
    with (
        served(app) as url,
        httpx.Client(base_url=url, headers=headers, timeout=60) as http,
        ThreadPoolExecutor(2 * MANY) as threads,
    ):
        try:
            # Each batch twice.
            answers = [threads.submit(http.post, f"/v1/batches/{name}/retry") for name in names * 2]
            for _ in answers:
                assert arrived.acquire(timeout=30)
            assert http.get("/v1/queues", timeout=20).status_code == 200
        finally:
            go.set()
        assert [answer.result().json() for answer in answers] == [{"items": 7}] * (2 * MANY)
    assert len(runs) == MANY
