"""`blipline webhooks`."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import redis

from producer import Client
from producer.cli.app import run
from producer.gateway.access.api_keys import ApiKeys
from producer.ledger import WebhookOutbox
from producer.ledger.delivery_log import DeliveryLog, WebhookDelivery
from producer.ledger.keys import Keys
from tests.cli.shell import Finish
from tests.webhooks.receiver import running_receiver

PING = WebhookDelivery("webhook.ping", "", "msg_1", "https://h.example", 1.5, 20, "failed")
RETRYING = replace(
    PING,
    event="job.completed",
    subject="acme.job.photo-7",
    status="retrying",
    error="no response within 10 s",
    next_attempt_at=90.0,
)


@pytest.fixture
def log(connection: redis.Redis) -> DeliveryLog:
    return DeliveryLog(connection)


def end_batch(client: Client, connection: redis.Redis, finish: Finish) -> WebhookDelivery:
    """Deliver the webhook of acme's batch `b`; return the attempt."""
    items = [{"image": "https://images.example.com/cat.jpg"}]
    client.submit_batch(items, batch_id="acme.batch.b", webhook="https://h.example/hook")
    finish("acme.batch.b:0", [{"text": "a cat"}])
    outbox = WebhookOutbox(connection)
    (event,) = outbox.claim_due(1, 60)
    delivery = replace(PING, event="batch.completed", subject=event.id, status="delivered")
    outbox.settle(event, "200", None, delivery, "acme")
    return client.webhooks.of_batch(event.id)[0]


def test_list_prints_the_newest_deliveries_of_a_name_first(
    log: DeliveryLog, capsys: pytest.CaptureFixture[str]
) -> None:
    ping, retrying = log.append("acme", PING), log.append("acme", RETRYING)
    assert run(["webhooks", "list", "acme"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{retrying.id}\t1970-01-01T00:00:01Z\tjob.completed\tphoto-7\tretrying\thttps://h.example"
        "\tno response within 10 s; next attempt 1970-01-01T00:01:30Z",
        f"{ping.id}\t1970-01-01T00:00:01Z\twebhook.ping\t\tfailed\thttps://h.example",
    ]
    for arguments, ids in (
        (["--job", "photo-7"], [retrying.id]),
        (["--status", "failed"], [ping.id]),
        (["--limit", "1"], [retrying.id]),
    ):
        assert run(["webhooks", "list", "acme", "--json", *arguments]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["id"] for line in lines] == ids
    assert run(["webhooks", "list", "other"]) == 0
    assert capsys.readouterr() == ("", "blipline: no deliveries are stored for 'other'\n")
    assert run(["webhooks", "list", "acme", "--job", "x", "--batch", "y"]) == 2


def test_resend_makes_the_webhook_of_a_batch_due(
    client: Client,
    connection: redis.Redis,
    finish: Finish,
    capsys: pytest.CaptureFixture[str],
) -> None:
    delivery = end_batch(client, connection, finish)
    assert run(["webhooks", "list", "acme", "--batch", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == delivery.id
    for arguments in ([], ["--batch", "b"]):
        assert not connection.exists(Keys().webhooks)
        assert run(["webhooks", "resend", "acme", delivery.id, *arguments]) == 0
        assert capsys.readouterr().out == "msg_1 is due now\n"
        assert connection.zrange(Keys().webhooks, 0, -1) == [b"batch acme.batch.b"]
        connection.delete(Keys().webhooks)


def test_resend_of_an_unknown_delivery_or_a_ping_names_the_remedy(
    log: DeliveryLog, capsys: pytest.CaptureFixture[str]
) -> None:
    ping = log.append("acme", PING)
    gone = log.append("acme", RETRYING)
    for delivery_id, message in (
        ("x", "no delivery 'x' is logged for this name"),
        (ping.id, f"delivery {ping.id} is a ping: send another ping instead"),
        (gone.id, f"the job or batch of delivery {gone.id} is no longer stored"),
    ):
        assert run(["webhooks", "resend", "acme", delivery_id]) == 2
        assert message in capsys.readouterr().err


def test_ping_prints_the_delivery_and_fails_with_the_receiver(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BLIPLINE_WEBHOOK_ALLOW", "127.0.0.1")
    keys = ApiKeys(connection)
    keys.create("acme")
    with running_receiver(204, 500) as receiver:
        hook = f"{receiver.url}?token=private"
        assert run(["webhooks", "ping", "acme", hook]) == 0
        received = receiver.next()
        assert received.verify(keys.webhook_secrets("acme")[0])["type"] == "webhook.ping"
        assert run(["webhooks", "ping", "acme", hook, "--json"]) == 1
    delivered, failed = capsys.readouterr().out.splitlines()
    assert delivered.split("\t")[2:5] == ["webhook.ping", "", "delivered"]
    assert json.loads(failed)["error"] == "the receiver responded 500"
    assert "private" not in delivered + failed


def test_ping_refuses_internal_addresses_other_urls_and_unknown_names(
    connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    ApiKeys(connection).create("acme")
    with running_receiver() as canary:
        assert run(["webhooks", "ping", "acme", canary.url]) == 1
        assert "blocked: 127.0.0.1" in capsys.readouterr().out
        assert run(["webhooks", "ping", "nobody", canary.url]) == 2
        assert "no key was ever created for this name" in capsys.readouterr().err
        assert run(["webhooks", "ping", "acme", "ftp://user:pa55@h.example"]) == 2
        assert "pa55" not in capsys.readouterr().err
        assert canary.connections == 0
