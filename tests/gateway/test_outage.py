"""Outages: requests continue after a restart of Redis; health checks answer at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from producer.gateway.access.api_keys import ApiKeys
from producer.gateway.app import create_app
from producer.gateway.settings import GatewaySettings
from producer.ledger.leases import Leases
from tests.ledger.jobs import store_result
from tests.redis_servers import Server

from .conftest import Serve
from .samples import CAPTION, JSONL, bearer, body_of


@pytest.fixture
def http(served: Serve, server: Server) -> Iterator[httpx.Client]:
    with server.connect() as connection:
        headers = bearer(ApiKeys(connection).create("acme"))
    settings = GatewaySettings(
        redis_url=f"redis://127.0.0.1:{server.port}/0", gateway_rate=10_000, page=False
    )
    with (
        served(create_app(settings)) as url,
        httpx.Client(base_url=url, headers=headers, timeout=60) as http,
    ):
        yield http


def test_requests_continue_after_a_restart_and_health_checks_answer_at_once(
    http: httpx.Client, server: Server
) -> None:
    assert http.put("/v1/jobs/first", json=CAPTION).status_code == 202
    assert http.post("/v1/batches?id=all", content=body_of(3), headers=JSONL).status_code == 202
    assert http.get("/readyz").status_code == 200
    with ThreadPoolExecutor(8) as threads:
        waits = [
            threads.submit(http.get, "/v1/jobs/first", headers={"Prefer": "wait=60"}),
            threads.submit(http.get, "/v1/batches/all/results?wait=true"),
        ]
        time.sleep(0.3)
        server.kill()
        requests = [
            threads.submit(http.put, "/v1/jobs/second", json=CAPTION),
            threads.submit(http.post, "/v1/batches?id=more", content=body_of(3), headers=JSONL),
            threads.submit(http.get, "/v1/batches/all"),
        ]
        # The requests wait for a minute; were the health checks to wait, they would succeed.
        assert http.get("/readyz").status_code == 503
        assert "blipline_redis_up 0.0" in http.get("/metrics").text
        assert http.get("/healthz").status_code == 200
        server.start()
        answers = [request.result() for request in requests]
        assert [answer.status_code for answer in answers] == [202, 202, 200]
        with server.connect() as connection:
            leases = Leases(connection)
            store_result(leases, "acme.job.first", [{"text": "a cat"}])
            store_result(leases, "acme.batch.all:0", [{"text": "a cat"}] * 3)
        job, results = (wait.result() for wait in waits)
        assert job.json()["output"]["text"] == "a cat"
        assert len(results.text.splitlines()) == 3
    assert http.get("/readyz").status_code == 200
