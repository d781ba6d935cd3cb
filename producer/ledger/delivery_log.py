"""The delivery log of webhooks: the latest attempts for each name of API keys and for each batch.

The log of a name is a stream, whose entry ids are the ids of the attempts. That of a batch is a
list with the same attempts: the jobs of a busy name cannot displace them. Entries contain neither
the URL, which may be a secret, nor the body.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, Self

import redis

from .keys import Keys
from .script import LedgerScript

#: Attempts that the log of a name holds; webhooks.lua has the same bound.
MAX_LOGGED: Final = 1000

#: Pattern of the ids of attempts: milliseconds and a number.
DELIVERY_ID: Final = r"[1-9]\d{0,15}-\d{1,9}"

#: Outcome of an attempt: `retrying` if another one follows, `failed` if none does.
DeliveryStatus = Literal["delivered", "retrying", "failed"]
#: Kind of the event whose webhook was sent.
EventName = Literal["job.completed", "batch.completed", "webhook.ping"]


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One attempt to deliver a webhook."""

    event: EventName
    #: Id of the job or batch; '' for a ping.
    subject: str
    #: `webhook-id` of the request: the same for every attempt of an event.
    message_id: str
    #: Scheme and host of the URL.
    url: str
    #: Time of the request (Unix s), and the milliseconds that it took.
    at: float
    duration_ms: int
    status: DeliveryStatus
    #: Status of the response; None if there was none.
    status_code: int | None = None
    #: Cause of the failure; '' if it was delivered.
    error: str = ""
    #: Number of the attempt, from 1.
    attempt: int = 1
    #: Time of the next attempt (Unix s); None if there is none.
    next_attempt_at: float | None = None
    #: True if somebody has asked for the webhook to be sent again.
    resent: bool = False
    #: Id of the attempt; '' before it is logged.
    id: str = ""

    def encode(self) -> str:
        """Return the entry of the log."""
        fields = {name: value for name, value in asdict(self).items() if value not in ("", None)}
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def decode(cls, delivery_id: bytes, entry: bytes) -> Self:
        """Read an entry of the log; fields of a newer version are ignored."""
        fields = json.loads(entry)
        known = {name: fields[name] for name in cls.__slots__ if name in fields}
        return cls(**{"subject": "", **known, "id": delivery_id.decode()})


class DeliveryLog:
    """The logs of one deployment; thread-safe. Raises redis-py's errors unchanged."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys = Keys(),  # noqa: B008 - immutable
    ) -> None:
        self._redis = client
        self._keys = keys
        self._script = LedgerScript(client, keys.prefix)

    def page(
        self, name: str, count: int = MAX_LOGGED, before: str = ""
    ) -> Sequence[WebhookDelivery]:
        """Return attempts for a name of API keys, the newest first; `before` is an attempt's id."""
        end = f"({before}" if before else "+"
        entries: Any = self._redis.xrevrange(self._keys.deliveries(name), end, count=count)
        return [WebhookDelivery.decode(entry_id, fields[b"d"]) for entry_id, fields in entries]

    def find(self, name: str, delivery_id: str) -> WebhookDelivery | None:
        """Return an attempt of a name; None if the log does not contain it."""
        log = self._keys.deliveries(name)
        entries: Any = self._redis.xrange(log, delivery_id, delivery_id)
        return next((WebhookDelivery.decode(key, fields[b"d"]) for key, fields in entries), None)

    def of_batch(self, batch_id: str) -> Sequence[WebhookDelivery]:
        """Return the attempts for a batch, the newest first."""
        entries: Any = self._redis.lrange(self._keys.batch_deliveries(batch_id), 0, -1)
        return [WebhookDelivery.decode(*entry.split(b" ", 1)) for entry in entries]

    def append(self, name: str, delivery: WebhookDelivery) -> WebhookDelivery:
        """Add an attempt that belongs to no event, and return it with its id."""
        delivery_id = self._script.call("log_delivery", name, delivery.encode())
        return replace(delivery, id=delivery_id.decode())

    def resend(self, delivery: WebhookDelivery) -> bool:
        """Make the event of an attempt due; return False if its job or batch is not stored."""
        kind = delivery.event.partition(".")[0]
        return bool(self._script.call("resend", kind, delivery.subject))
