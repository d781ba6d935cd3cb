"""Webhook sender: it claims due events from Redis and delivers them. Webhook retries and leases.

Several gateways may run concurrently. A claimed event becomes due again when its lease expires, so
the other gateways deliver the events of a gateway that died. Delivery is at least once; a repeated
event has the same `webhook-id`.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

import redis

from ..errors import BliplineError
from ..ledger.outbox import WebhookOutbox
from ..ledger.records import WebhookEvent
from ..net.host_limiter import HostLimiter
from ..net.http_client import host_of
from .delivery_attempt import DeliveryAttempt
from .payload import build_message
from .quotas import DeliveryQuotas, QuotaKey
from .receiver import Delivery, Verdict, WebhookClient

#: Requests in progress: in total and per host.
THREADS: Final = 16
THREADS_PER_HOST: Final = 4
#: Lease of a claimed event, in seconds. It covers the wait for a thread and the request itself.
LEASE_S: Final = 60.0
#: Minimum remaining lease at the start of a request, as a multiple of the request's timeout.
MIN_LEASE_FACTOR: Final = 1.5
#: Seconds before each retry, as the Standard Webhooks convention suggests; the last one repeats.
RETRY_DELAYS_S: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000)
#: Maximum random addition to a delay, as a fraction of it. It spreads events that failed together.
JITTER: Final = 0.2
#: Maximum delay that a receiver may request, in seconds.
MAX_RETRY_AFTER_S: Final = 72_000.0
#: Seconds between polls of Redis: when no event is due, and while some are in flight.
IDLE_POLL_S: Final = 1.0
BUSY_POLL_S: Final = 0.1
#: Seconds that `stop` waits for requests in progress.
STOP_TIMEOUT_S: Final = 5.0

#: Label of the metric.
DeliveryOutcome = Literal["sent", "failed", "given_up"]

#: Reads the job or batch of an event as JSON; None if it is open again or deleted.
ReadBody = Callable[[WebhookEvent], Mapping[str, Any] | None]

#: Stored detail of an event whose job or batch has no end to report.
_NOTHING_TO_SEND: Final = "the job or batch was reopened or deleted"

log = logging.getLogger("blipline.gateway.webhooks")

#: Errors of Redis and of the network; all others are internal errors.
_CONNECTION_ERRORS: Final = (redis.RedisError, BliplineError, OSError)


class WebhookSender:
    """A sender that delivers webhook events between `start` and `stop`.

    `secrets_of` returns the signing secrets of a tenant, the newest first, and `tenant_of` the
    tenant of an event, empty if it has none. `max_attempts` applies to each event. `count` receives
    the outcome of each attempt, in any thread.
    """

    def __init__(
        self,
        outbox: WebhookOutbox,
        client: WebhookClient,
        read_body: ReadBody,
        secrets_of: Callable[[str], Sequence[str]],
        tenant_of: Callable[[WebhookEvent], str],
        *,
        max_attempts: int = len(RETRY_DELAYS_S),
        delays_s: Sequence[float] = RETRY_DELAYS_S,
        lease_s: float = LEASE_S,
        idle_s: float = IDLE_POLL_S,
        count: Callable[[DeliveryOutcome], None] = lambda outcome: None,
    ) -> None:
        self._outbox = outbox
        self._client = client
        self._read_body = read_body
        self._secrets_of = secrets_of
        self._tenant_of = tenant_of
        self._max_attempts = max_attempts
        self._delays_s = delays_s
        self._lease_s = lease_s
        self._idle_s = idle_s
        self._count = count
        self._limiter: HostLimiter[None] = HostLimiter(THREADS, THREADS_PER_HOST, "webhook")
        self._quotas = DeliveryQuotas()
        self._stopping = threading.Event()
        self._redis_failed = False
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Start the sender's thread."""
        self._thread.start()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Claim no more events and wait for requests in progress.

        Claimed events that have not started are returned to the outbox.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._limiter.close()
        self._quotas.wait_until_idle(timeout_s)
        self._client.close()

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            try:
                pause_s = self._claim()
                self._log_recovery()
            except Exception as error:
                pause_s = self._idle_s
                if not self._stopping.is_set():
                    self._log_error(error)

    def _claim(self) -> float:
        """Claim and submit due events within the quotas; return the seconds until the next poll."""
        free = self._quotas.free
        if not free:
            return BUSY_POLL_S
        lease_ends = time.monotonic() + self._lease_s
        due = self._outbox.claim_due(free, self._lease_s)
        for event in due:
            key = host_of(event.url) or "no host", self._tenant_of(event)
            deferral_s = self._quotas.acquire(key)
            if deferral_s is None:
                self._submit(event, key, lease_ends)
            else:
                self._outbox.defer(event, deferral_s)
        if len(due) == free:
            return 0.0
        return min(self._idle_s, BUSY_POLL_S) if self._quotas.in_flight else self._idle_s

    def _submit(self, event: WebhookEvent, key: QuotaKey, lease_ends: float) -> None:
        host, tenant = key
        delivery = self._limiter.submit(
            host, partial(self._deliver, event, host, tenant, lease_ends)
        )
        delivery.add_done_callback(partial(self._finish, event, key))

    def _finish(self, event: WebhookEvent, key: QuotaKey, delivery: Future[None]) -> None:
        """Release the quota; return an event that was cancelled before its start to the outbox."""
        try:
            if delivery.cancelled():
                self._outbox.defer(event, 0)
            elif (error := delivery.exception()) is not None:
                self._log_error(error)
        except _CONNECTION_ERRORS as error:
            # The event becomes due again when its lease expires.
            self._log_error(error)
        finally:
            self._quotas.release(key)

    def _deliver(self, event: WebhookEvent, host: str, tenant: str, lease_ends: float) -> None:
        if time.monotonic() > lease_ends - MIN_LEASE_FACTOR * self._client.send_s:
            # The event waited too long for a thread, and another sender may soon claim it.
            self._outbox.defer(event, 0)
            return
        attempt = DeliveryAttempt.of(event)
        try:
            delivery = self._send(event, tenant)
        except _CONNECTION_ERRORS:
            raise
        except Exception as error:
            # The error counts as an attempt, so that the event is not retried forever.
            log.error("webhook of %s: internal error", event.id, exc_info=error)
            delivery = Delivery(Verdict.RETRY, "internal error of the gateway")
        if delivery is None:
            log.info("webhook of %s: %s", event.id, _NOTHING_TO_SEND)
            entry = attempt.record(Delivery(Verdict.GIVE_UP, _NOTHING_TO_SEND))
            self._outbox.settle(event, _NOTHING_TO_SEND, None, entry, tenant)
        else:
            retry_in_s = self._retry_delay_s(event, delivery)
            entry = attempt.record(delivery, retry_in_s)
            self._report(event, host, delivery, retry_in_s)
            self._outbox.settle(event, delivery.detail, retry_in_s, entry, tenant)

    def _send(self, event: WebhookEvent, tenant: str) -> Delivery | None:
        """Send the request; return None if the job or batch was reopened or deleted."""
        secrets = self._secrets_of(tenant)
        if not secrets:
            detail = "the API key of this id does not exist, so there is no signing secret"
            return Delivery(Verdict.GIVE_UP, detail)
        data = self._read_body(event)
        if data is None:
            return None
        message = build_message(event, data, secrets, datetime.now(UTC))
        return self._client.send(event.url, message)

    def _report(
        self, event: WebhookEvent, host: str, delivery: Delivery, retry_in_s: float | None
    ) -> None:
        attempt = f"attempt {event.attempts + 1}"
        if delivery.verdict is Verdict.DELIVERED:
            outcome: DeliveryOutcome = "sent"
            log.info("webhook of %s to %s: %s (%s)", event.id, host, delivery.detail, attempt)
        elif retry_in_s is None:
            outcome = "given_up"
            detail = f"{delivery.detail} ({attempt})"
            log.warning("webhook of %s to %s given up: %s", event.id, host, detail)
        else:
            outcome = "failed"
            detail = f"{delivery.detail} ({attempt}, next in {retry_in_s:.0f} s)"
            log.warning("webhook of %s to %s failed: %s", event.id, host, detail)
        self._count(outcome)

    def _retry_delay_s(self, event: WebhookEvent, delivery: Delivery) -> float | None:
        """Return the seconds until the next attempt, with jitter; None if there is none."""
        if delivery.verdict is not Verdict.RETRY or event.attempts + 1 >= self._max_attempts:
            return None
        delay_s = self._delays_s[min(event.attempts, len(self._delays_s) - 1)]
        requested_s = min(delivery.retry_after_s, MAX_RETRY_AFTER_S)
        return max(delay_s, requested_s) * random.uniform(1.0, 1.0 + JITTER)

    def _log_error(self, error: BaseException) -> None:
        """Log an internal error, or the first of several connection errors."""
        if not isinstance(error, _CONNECTION_ERRORS):
            log.error("webhook delivery failed: internal error", exc_info=error)
        elif not self._redis_failed:
            self._redis_failed = True
            error_name = type(error).__name__
            log.warning("webhook delivery paused: Redis is unreachable (%s)", error_name)

    def _log_recovery(self) -> None:
        if self._redis_failed:
            log.info("webhook delivery resumed")
        self._redis_failed = False
