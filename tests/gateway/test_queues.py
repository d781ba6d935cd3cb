"""How full the queues are, over HTTP."""

from __future__ import annotations

from producer import Client

from .conftest import Reached, Start


def test_the_queues_say_how_full_they_are(gateway: Reached, client: Client) -> None:
    client.submit_batch([{"text": "a cat"}] * 3, "embed")
    client.caption(b"four")
    body = gateway.client().get("/v1/queues").json()
    assert body == {
        "queues": {
            "interactive": {"open_items": 1, "max_items": 10_000},
            "bulk": {"open_items": 3, "max_items": 10_000_000},
        },
        "running_jobs": 0,
        "blob_bytes": 4,
        "max_blob_bytes": 4096 * 2**20,
    }


def test_a_queue_without_a_bound_has_none(start_gateway: Start) -> None:
    started = start_gateway(BLIPLINE_MAX_QUEUED_BULK="0", BLIPLINE_MAX_BLOB_MB="0")
    body = started.client().get("/v1/queues").json()
    assert body["queues"]["bulk"]["max_items"] is None
    assert body["max_blob_bytes"] is None


def test_queues_need_a_key(gateway: Reached) -> None:
    assert gateway.client(None).get("/v1/queues").status_code == 401
