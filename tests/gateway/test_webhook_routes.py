"""Routes of webhooks: delivery logs, resend and ping."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest
import redis

from producer.gateway.access.api_keys import ApiKeys
from producer.ledger.delivery_log import DeliveryLog, WebhookDelivery
from producer.ledger.keys import Keys
from tests.conftest import Finish
from tests.webhooks.receiver import Receiver, respond, running_receiver
from tests.webhooks.senders import wait_until_settled

from .conftest import Reached, Run
from .samples import JSONL, URL

ALLOWED = {"BLIPLINE_WEBHOOK_ALLOW": "127.0.0.0/8"}
PING = WebhookDelivery("webhook.ping", "", "msg_1", "https://h.example", 1.5, 20, "failed")


@pytest.fixture
def allowing(run_gateway: Run) -> Reached:
    """Return a gateway that sends webhooks to this machine."""
    return run_gateway(**ALLOWED)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


def deliveries_of(http: httpx.Client, path: str = "/v1/webhooks/deliveries", **query: Any) -> Any:
    answer = http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_a_batch_lists_its_deliveries_and_sends_them_again(
    allowing: Reached, receiver: Receiver, connection: redis.Redis, finish: Finish
) -> None:
    http, stranger = allowing.client("acme"), allowing.client("other")
    hook = f"{receiver.url}/T0SECRET?token=private-query"
    line = json.dumps({"image": URL})
    http.post("/v1/batches", params={"id": "b", "webhook": hook}, content=line, headers=JSONL)
    finish("acme.batch.b:0", [{"text": "a cat"}])
    first = receiver.next()
    wait_until_settled(connection)
    (delivery,) = deliveries_of(http, "/v1/batches/b/deliveries")
    assert [delivery] == deliveries_of(http)
    assert (delivery["object"], delivery["event"]) == ("webhook_delivery", "batch.completed")
    assert (delivery["batch"], delivery["job"], delivery["attempt"]) == ("b", None, 1)
    assert (delivery["status"], delivery["status_code"]) == ("delivered", 204)
    assert (delivery["message_id"], delivery["error"]) == (first.id, None)
    assert not any(secret in str(delivery) for secret in ("SECRET", "private", "whsec_"))
    resend = f"/v1/webhooks/deliveries/{delivery['id']}/resend"
    # Another name sees neither, and cannot send it.
    assert deliveries_of(stranger) == []
    assert stranger.get("/v1/batches/b/deliveries").status_code == 404
    for query in ({}, {"batch": "b"}):
        assert stranger.post(resend, params=query).status_code == 404
    # Deliveries of jobs may have displaced it in the log of the name.
    connection.delete(Keys().deliveries("acme"))
    assert http.post(resend).json()["code"] == "unknown"
    answer = http.post(resend, params={"batch": "b"})
    assert (answer.status_code, answer.json()) == (202, delivery)
    assert receiver.next().id == first.id
    assert len(receiver.received) == 2
    wait_until_settled(connection)
    again, _ = deliveries_of(http, "/v1/batches/b/deliveries")
    assert (again["resent"], again["attempt"], again["status"]) == (True, 1, "delivered")


def test_deliveries_are_paged_and_filtered(allowing: Reached, connection: redis.Redis) -> None:
    http, log = allowing.client("acme"), DeliveryLog(connection)
    for number in range(5):
        log.append("acme", replace(PING, event="job.completed", subject=f"acme.job.{number % 2}"))
    page = http.get("/v1/webhooks/deliveries", params={"limit": 2}).json()
    assert (len(page["data"]), page["has_more"]) == (2, True)
    rest = http.get("/v1/webhooks/deliveries", params={"cursor": page["next_cursor"]}).json()
    assert (len(rest["data"]), rest["has_more"], rest["next_cursor"]) == (3, False, None)
    assert len({item["id"] for item in page["data"] + rest["data"]}) == 5
    assert [item["job"] for item in deliveries_of(http, job="1")] == ["1", "1"]
    assert deliveries_of(http, status="delivered") == []
    assert len(deliveries_of(http, status="failed", job="0", limit=2)) == 2
    for wrong in (
        {"cursor": "x"},
        {"cursor": "0-0"},
        {"cursor": "9" * 30 + "-0"},
        {"limit": 0},
        {"unknown": 1},
    ):
        answer = http.get("/v1/webhooks/deliveries", params=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid"), wrong
        assert next(iter(wrong)) in answer.json()["detail"]


def test_only_events_of_stored_jobs_are_sent_again(
    allowing: Reached, connection: redis.Redis
) -> None:
    http, log = allowing.client("acme"), DeliveryLog(connection)
    gone = WebhookDelivery("job.completed", "acme.job.gone", "m", "http://h", 1.5, 2, "failed")
    ids = [log.append("acme", delivery).id for delivery in (PING, gone)]
    answers = [http.post(f"/v1/webhooks/deliveries/{id_}/resend") for id_ in (*ids, "1-0", "never")]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown")
    details = [answer.json()["detail"] for answer in answers]
    assert "is a ping: send another ping" in details[0]
    assert "is no longer stored" in details[1]
    assert "is logged" in details[2]


def test_a_ping_is_signed_reported_and_logged(
    allowing: Reached, receiver: Receiver, connection: redis.Redis
) -> None:
    http = allowing.client("acme")
    receiver.answers = [204, 500]
    hook = {"webhook": f"{receiver.url}?token=private-query"}
    answer = http.post("/v1/webhooks/ping", json=hook)
    received = receiver.next()
    message = received.verify(ApiKeys(connection).webhook_secrets("acme")[0])
    assert message["type"] == "webhook.ping"
    delivery = answer.json()
    assert (answer.status_code, delivery["event"]) == (200, "webhook.ping")
    assert (delivery["status"], delivery["status_code"]) == ("delivered", 204)
    assert (delivery["message_id"], delivery["job"]) == (received.id, None)
    failed = http.post("/v1/webhooks/ping", json=hook).json()
    assert (failed["status"], failed["error"]) == ("failed", "the receiver responded 500")
    assert failed["next_attempt_at"] is None
    assert deliveries_of(http) == [failed, delivery]
    assert "private" not in str(deliveries_of(http))
    assert deliveries_of(allowing.client("other")) == []


def test_a_ping_of_an_internal_address_or_an_invalid_url_is_refused(run_gateway: Run) -> None:
    http = run_gateway().client("acme")
    with running_receiver() as canary:
        bodies: list[Any] = [
            {"webhook": canary.url},
            {"webhook": "ftp://user:pa55@h.example/"},
            {"webhook": None},
            {},
            {"webhook": "https://h.example", "more": 1},
        ]
        for body in bodies:
            answer = http.post("/v1/webhooks/ping", json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid"), body
            assert "pa55" not in answer.text
        assert http.post("/v1/webhooks/ping", content=b"x").status_code == 415
        assert canary.connections == 0
    assert deliveries_of(http) == []


def test_each_name_has_one_ping_in_progress(allowing: Reached) -> None:
    arrived, goes_on = threading.Event(), threading.Event()

    def wait(request: BaseHTTPRequestHandler) -> None:
        arrived.set()
        goes_on.wait(60)
        respond(request, 204)

    http, answers = allowing.client("acme"), []
    with running_receiver(wait) as receiver, running_receiver() as quick:
        slow = threading.Thread(
            target=lambda: answers.append(
                allowing.client("acme").post("/v1/webhooks/ping", json={"webhook": receiver.url})
            )
        )
        slow.start()
        assert arrived.wait(60)
        refused = http.post("/v1/webhooks/ping", json={"webhook": quick.url})
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert refused.headers["Retry-After"] == "1"
        ping = allowing.client("other").post("/v1/webhooks/ping", json={"webhook": quick.url})
        assert ping.json()["status"] == "delivered"
        goes_on.set()
        slow.join()
        assert answers[0].json()["status"] == "delivered"
        assert http.post("/v1/webhooks/ping", json={"webhook": quick.url}).status_code == 200
