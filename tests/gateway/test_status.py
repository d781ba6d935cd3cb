"""Health, readiness, metrics and the depth of the queues."""

from __future__ import annotations

import redis
from prometheus_client.parser import text_string_to_metric_families

from producer import Client
from producer.ledger import Leases
from producer.ledger.keys import Keys
from producer.ledger.malformed import MalformedMessages

from .conftest import Reached, Run


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metric(text: str, name: str, **labels: str) -> float:
    return samples(text).get((name, frozenset(labels.items())), 0.0)


def test_health_and_readiness_need_no_key(gateway: Reached) -> None:
    for path, more in (("/healthz", {}), ("/readyz", {"workers": 0})):
        answer = gateway.client(None).get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", **more})


def test_workers_that_are_alive_are_counted(gateway: Reached, connection: redis.Redis) -> None:
    leases = Leases(connection)
    for worker in ("host:1", "host:2", "host:1"):
        leases.report_worker(worker)
    connection.zadd(Keys().workers, {"host:3": connection.time()[0] - 31})
    assert gateway.client(None).get("/readyz").json() == {"status": "ok", "workers": 2}
    assert gateway.client().get("/v1/queues").json()["workers"] == 2
    assert metric(gateway.client(None).get("/metrics").text, "blipline_workers") == 2
    leases.report_worker("host:1")
    assert connection.zcard(Keys().workers) == 2


def test_requests_are_counted_by_route_template(gateway: Reached) -> None:
    client = gateway.client()
    labels = {"method": "GET", "route": "/v1/jobs/{id}", "status": "404"}
    name = "blipline_gateway_requests_total"
    before = metric(client.get("/metrics").text, name, **labels)
    for number in range(3):
        client.get(f"/v1/jobs/counted-{number}")
    text = client.get("/metrics").text
    assert metric(text, name, **labels) == before + 3
    assert "counted-" not in text
    seconds = "blipline_gateway_request_seconds_count"
    assert metric(text, seconds, method="GET", route="/v1/jobs/{id}") >= 3


def test_unknown_paths_share_one_label(gateway: Reached) -> None:
    client = gateway.client()
    for number in range(20):
        client.get(f"/made-up-{number}")
        client.get(f"/v1/made-up-{number}")
    text = client.get("/metrics").text
    assert "made-up" not in text
    assert metric(text, "blipline_gateway_requests_total", method="GET", route="none", status="404")


def test_open_items_are_reported_by_queue(gateway: Reached, client: Client) -> None:
    client.submit({"image": "https://images.example.com/cat.jpg"})
    client.submit_batch([{"image": "https://images.example.com/cat.jpg"}] * 40)
    text = gateway.client(None).get("/metrics").text
    assert metric(text, "blipline_open_items", queue="interactive") == 1
    assert metric(text, "blipline_open_items", queue="bulk") == 40


def test_dead_letters_are_reported_by_kind(gateway: Reached, connection: redis.Redis) -> None:
    connection.zadd(Keys().dead, {"a": 1, "b": 2})
    MalformedMessages(connection).add("bulk", b"{", "not JSON")
    text = gateway.client(None).get("/metrics").text
    assert metric(text, "blipline_dead_letters", kind="job") == 2
    assert metric(text, "blipline_dead_letters", kind="message") == 1


def test_metrics_contain_no_key(gateway: Reached) -> None:
    gateway.client().get("/v1/queues")
    text = gateway.client(None).get("/metrics").text
    assert "acme" not in text
    assert "blip_" not in text


def test_queues_report_depth_and_limits(gateway: Reached, client: Client) -> None:
    client.submit_batch([{"text": "a cat"}] * 3, "embed")
    client.caption(b"four")
    body = gateway.client().get("/v1/queues").json()
    assert body == {
        "queues": {
            "interactive": {"open_items": 1, "max_items": 10_000},
            "bulk": {"open_items": 3, "max_items": 10_000_000},
        },
        "running_jobs": 0,
        "workers": 0,
        "blob_bytes": 4,
        "max_blob_bytes": 4096 * 2**20,
        # Clients of Redis itself have no quota.
        "stored_bytes": 0,
        "max_stored_bytes": 2048 * 2**20,
    }


def test_queues_report_the_stored_bytes_of_the_name(gateway: Reached) -> None:
    http = gateway.client()
    http.post("/v1/images", content=b"x" * 5000)
    assert 5000 < http.get("/v1/queues").json()["stored_bytes"] < 6000
    assert gateway.client("other").get("/v1/queues").json()["stored_bytes"] == 0


def test_an_unlimited_queue_has_no_limit(run_gateway: Run) -> None:
    started = run_gateway(
        BLIPLINE_MAX_QUEUED_BULK="0", BLIPLINE_MAX_BLOB_MB="0", BLIPLINE_GATEWAY_QUOTA_MB="0"
    )
    body = started.client().get("/v1/queues").json()
    assert body["queues"]["bulk"]["max_items"] is None
    assert body["max_blob_bytes"] is None
    assert body["max_stored_bytes"] is None


def test_queues_need_a_key(gateway: Reached) -> None:
    assert gateway.client(None).get("/v1/queues").status_code == 401
