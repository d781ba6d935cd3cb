"""Senders of webhooks that a test has for itself, and jobs of which they tell."""

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
from producer.gateway.metadata import RequestMetadata
from producer.gateway.tenants import tenant_of
from producer.gateway.webhook_body import WebhookBodies
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
#: Seconds that a test's sender gives a receiver.
SEND_S: Final = 2.0
#: Starts a sender with what a test needs otherwise.
StartSender = Callable[..., WebhookSender]
#: Ends a job that wants a URL to be told.
EndJob = Callable[..., None]


@pytest.fixture
def outbox(connection: redis.Redis) -> WebhookOutbox:
    return WebhookOutbox(connection)


@pytest.fixture
def outcomes() -> Counter[str]:
    """What the senders of a test counted."""
    return Counter()


@pytest.fixture
def start_sender(
    client: Client, outbox: WebhookOutbox, outcomes: Counter[str]
) -> Iterator[StartSender]:
    """Starts senders: `start_sender(guard=…, secrets=…, send_s=…, **more)`."""
    with ExitStack() as stack:

        def started(
            guard: AddressPolicy = LOOPBACK,
            secrets: tuple[str, ...] = (SECRET,),
            send_s: float = SEND_S,
            **more: Any,
        ) -> WebhookSender:
            given: dict[str, Any] = {"delays_s": (0.01,), "idle_s": 0.05, **more}
            sender = WebhookSender(
                outbox,
                WebhookClient(guard, connections=16, send_s=send_s),
                WebhookBodies(client).read,
                lambda name: secrets if name == "acme" else (),
                lambda event: tenant_of(event.id, event.kind),
                count=lambda outcome: outcomes.update([outcome]),
                **given,
            )
            stack.callback(sender.stop)
            sender.start()
            return sender

        yield started


@pytest.fixture
def end_job(client: Client, finish: Finish) -> EndJob:
    """Ends a job of acme that wants a URL to be told: `end_job(url, "x")`."""

    def ended(url: str, name: str = "x", result: dict[str, Any] | None = None) -> None:
        submit(client, url, name)
        finish(f"acme.job.{name}", [result or {"text": "a cat"}])

    return ended


def submit(client: Client, url: str, name: str = "x") -> None:
    note = RequestMetadata(Task.CAPTION, 1_790_000_000.5).encode()
    client.submit({"image": URL}, job_id=f"acme.job.{name}", note=note, webhook=url)


def told(connection: redis.Redis, name: str = "x") -> str:
    """What is noted of the last try to tell of a job."""
    found: Any = connection.hget(Keys().metadata(f"acme.job.{name}"), "webhook_told")
    return (found or b"").decode()


def wait_until_told(connection: redis.Redis, about: str, name: str = "x") -> None:
    wait_until(lambda: about in told(connection, name), f"{about!r} to be noted")


def wait_until_over(connection: redis.Redis) -> None:
    wait_until(lambda: not connection.exists(Keys().webhooks), "nothing to be left to tell")
