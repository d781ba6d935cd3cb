"""Fixtures: webhook senders, and ended jobs with webhooks."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import pytest
import redis

from producer import Client
from producer.contract import Task
from producer.gateway.access.tenants import tenant_of
from producer.gateway.schemas.metadata import RequestMetadata
from producer.gateway.webhooks.webhook_body import WebhookBodies
from producer.ledger.keys import Keys
from producer.ledger.outbox import WebhookOutbox
from producer.net.address_policy import AddressPolicy
from producer.webhooks.receiver import WebhookClient
from producer.webhooks.sender import WebhookSender
from tests.conftest import Finish
from tests.gateway.samples import URL
from tests.redis_servers import wait_until

SECRET: Final = "whsec_" + base64.b64encode(b"a secret of 32 bytes, no less..!").decode()
OLD_SECRET: Final = "whsec_" + base64.b64encode(b"the one that it has replaced...!").decode()
LOOPBACK: Final = AddressPolicy(["127.0.0.0/8", "::1"])
#: Request timeout of a test's sender.
SEND_S: Final = 2.0
#: Starts a sender with given options.
StartSender = Callable[..., WebhookSender]
#: Ends a job that has a webhook.
EndJob = Callable[..., None]


@pytest.fixture
def outbox(connection: redis.Redis) -> WebhookOutbox:
    return WebhookOutbox(connection)


@pytest.fixture
def outcomes() -> Counter[str]:
    """Return the outcomes that the senders of a test counted."""
    return Counter()


@pytest.fixture
def start_sender(
    client: Client, outbox: WebhookOutbox, outcomes: Counter[str]
) -> Iterator[StartSender]:
    """Yield a function that starts senders: `start_sender(policy=…, secrets=…, send_s=…)`."""
    with ExitStack() as stack:

        def start(
            policy: AddressPolicy = LOOPBACK,
            secrets: tuple[str, ...] = (SECRET,),
            send_s: float = SEND_S,
            **more: Any,
        ) -> WebhookSender:
            options: dict[str, Any] = {"delays_s": (0.01,), "idle_s": 0.05, **more}
            sender = WebhookSender(
                outbox,
                WebhookClient(policy, connections=16, send_s=send_s),
                WebhookBodies(client).read,
                lambda name: secrets if name == "acme" else (),
                lambda event: tenant_of(event.id, event.kind),
                count=lambda outcome: outcomes.update([outcome]),
                **options,
            )
            stack.callback(sender.stop)
            sender.start()
            return sender

        yield start


@pytest.fixture
def end_job(client: Client, finish: Finish) -> EndJob:
    """Return a function that ends a job of acme with a webhook: `end_job(url, "x")`."""

    def end(url: str, name: str = "x", result: dict[str, Any] | None = None) -> None:
        submit(client, url, name)
        finish(f"acme.job.{name}", [result or {"text": "a cat"}])

    return end


def submit(client: Client, url: str, name: str = "x") -> None:
    note = RequestMetadata(Task.CAPTION, 1_790_000_000.5).encode()
    client.submit({"image": URL}, job_id=f"acme.job.{name}", note=note, webhook=url)


def last_result(connection: redis.Redis, name: str = "x") -> str:
    """Return the stored result of the last attempt for a job."""
    stored: Any = connection.hget(Keys().metadata(f"acme.job.{name}"), "webhook_told")
    return (stored or b"").decode()


def wait_for_result(connection: redis.Redis, expected: str, name: str = "x") -> None:
    wait_until(lambda: expected in last_result(connection, name), f"{expected!r} to be stored")


def wait_until_settled(connection: redis.Redis) -> None:
    wait_until(lambda: not connection.exists(Keys().webhooks), "an empty outbox")
