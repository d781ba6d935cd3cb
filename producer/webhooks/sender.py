"""Who tells of ends: takes from Redis what is due, and sends it, a few at once.

Several gateways may do so side by side: what one has taken the others see again when its lease is
over, so one that dies leaves its part to them. An end may so be told twice, never not at all; the
webhook-id is the same.
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
from ..gateway.tenants import tenant_of
from ..ledger.ledger import Ledger
from ..ledger.records import WebhookEvent
from ..net.host_limiter import HostLimiter
from ..net.http_client import host_of
from .payload import message
from .quotas import DeliveryQuotas, Share
from .receiver import Delivery, Verdict, WebhookClient

#: Webhooks that are sent at once, and of those the ones to one host.
THREADS: Final = 16
THREADS_EACH: Final = 4
#: Seconds that others leave alone what was taken: for a turn, and for the sending itself.
LEASE_S: Final = 60.0
#: What must be left of the lease when it begins, in times of what sending takes at most.
LEFT: Final = 1.5
#: Seconds after each try in vain, as the Standard Webhooks convention suggests; the last one stays.
PAUSES_S: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000)
#: Part of a pause that chance adds at most: what failed together need not come together again.
JITTER: Final = 0.2
#: Seconds that a receiver may ask to be left alone for.
LONGEST_ASKED_S: Final = 72_000.0
#: Seconds between looks at Redis, when there is nothing to do, and when there is more to come.
IDLE_S: Final = 1.0
BUSY_S: Final = 0.1
#: Seconds that stopping waits for what is being sent.
STOP_S: Final = 5.0

#: What metrics count.
DeliveryOutcome = Literal["sent", "failed", "given_up"]

#: What GET says of a job or batch now; None where it is not at an end, or is gone.
Read = Callable[[WebhookEvent], Mapping[str, Any] | None]

#: There is nothing to tell of.
_NOTHING: Final = "it is open again, or gone"

log = logging.getLogger("blipline.gateway.webhooks")

_TROUBLE: Final = (redis.RedisError, BliplineError, OSError)


class WebhookSender:
    """Tells of ends between `start` and `stop`.

    `secrets` are those of a name, the newest first; `tries` is how often one end is told of at
    most; `count` is called with each outcome, in any thread.
    """

    def __init__(
        self,
        ledger: Ledger,
        receivers: WebhookClient,
        read: Read,
        secrets: Callable[[str], Sequence[str]],
        *,
        tries: int = len(PAUSES_S),
        pauses_s: Sequence[float] = PAUSES_S,
        lease_s: float = LEASE_S,
        idle_s: float = IDLE_S,
        count: Callable[[DeliveryOutcome], None] = lambda outcome: None,
    ) -> None:
        self._ledger = ledger
        self._receivers = receivers
        self._read = read
        self._secrets = secrets
        self._tries = tries
        self._pauses_s = pauses_s
        self._lease_s = lease_s
        self._idle_s = idle_s
        self._count = count
        self._turns: HostLimiter[None] = HostLimiter(THREADS, THREADS_EACH, "webhook")
        self._shares = DeliveryQuotas()
        self._stopping = threading.Event()
        self._away = False
        self._loop = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin; comes back at once."""
        self._loop.start()

    def stop(self, wait_s: float = STOP_S) -> None:
        """Take no more; what is being sent has so long, and what had no turn is left to others."""
        self._stopping.set()
        if self._loop.is_alive():
            self._loop.join(wait_s)
        self._turns.close()
        self._shares.wait_until_none(wait_s)
        self._receivers.close()

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            try:
                pause_s = self._take()
                self._say_away(None)
            except Exception as error:
                pause_s = self._idle_s
                if not self._stopping.is_set():
                    self._say_away(error)

    def _take(self) -> float:
        """Take what is due, as far as there is room; returns the seconds until the next look."""
        room = self._shares.room
        if not room:
            return BUSY_S
        until = time.monotonic() + self._lease_s
        due = self._ledger.claim_due_webhooks(room, self._lease_s)
        for one in due:
            share = _share_of(one)
            put_off_s = self._shares.take(share)
            if put_off_s is None:
                self._begin(one, share, until)
            else:
                self._ledger.defer_webhook(one, put_off_s)
        if len(due) == room:
            return 0.0
        return min(self._idle_s, BUSY_S) if self._shares.held else self._idle_s

    def _begin(self, one: WebhookEvent, share: Share, until: float) -> None:
        host, _ = share
        told = self._turns.submit(host, partial(self._tell, one, host, until))
        told.add_done_callback(partial(self._end, one, share))

    def _end(self, one: WebhookEvent, share: Share, told: Future[None]) -> None:
        """It was told, or never had a turn."""
        try:
            if told.cancelled():
                self._ledger.defer_webhook(one, 0)
            elif (error := told.exception()) is not None:
                self._say_away(error)
        except _TROUBLE as error:
            # The lease gives it to others, too.
            self._say_away(error)
        finally:
            self._shares.give_back(share)

    def _tell(self, one: WebhookEvent, host: str, until: float) -> None:
        if time.monotonic() > until - LEFT * self._receivers.send_s:
            # It waited for its turn for too long: others may soon take it.
            self._ledger.defer_webhook(one, 0)
            return
        try:
            answer = self._answer_to(one)
        except _TROUBLE:
            raise
        except Exception as error:
            # It counts as a try: it must not be tried for ever.
            log.error("webhook of %s: this is a bug", one.id, exc_info=error)
            answer = Delivery(Verdict.RETRY, "a bug of the gateway")
        if answer is None:
            log.info("webhook of %s: %s", one.id, _NOTHING)
            self._ledger.settle_webhook(one, _NOTHING, None)
        else:
            self._note(one, host, answer)

    def _answer_to(self, one: WebhookEvent) -> Delivery | None:
        """What the receiver says; None where there is nothing to tell any more."""
        secrets = self._secrets(tenant_of(one.id, one.kind))
        if not secrets:
            return Delivery(Verdict.GIVE_UP, "its id belongs to no API key, so nothing signs it")
        data = self._read(one)
        if data is None:
            return None
        return self._receivers.send(one.url, message(one, data, secrets, datetime.now(UTC)))

    def _note(self, one: WebhookEvent, host: str, answer: Delivery) -> None:
        again_in_s = self._again_in_s(one, answer)
        tries = f"try {one.tries + 1}"
        if answer.verdict is Verdict.DELIVERED:
            outcome: DeliveryOutcome = "sent"
            log.info("webhook of %s to %s: %s (%s)", one.id, host, answer.about, tries)
        elif again_in_s is None:
            outcome = "given_up"
            log.warning("webhook of %s to %s given up: %s (%s)", one.id, host, answer.about, tries)
        else:
            outcome = "failed"
            about = f"{answer.about} ({tries}, again in {again_in_s:.0f} s)"
            log.warning("webhook of %s to %s failed: %s", one.id, host, about)
        self._count(outcome)
        self._ledger.settle_webhook(one, answer.about, again_in_s)

    def _again_in_s(self, one: WebhookEvent, answer: Delivery) -> float | None:
        """Seconds until the next try; None where there is none."""
        if answer.verdict is not Verdict.RETRY or one.tries + 1 >= self._tries:
            return None
        pause_s = self._pauses_s[min(one.tries, len(self._pauses_s) - 1)]
        asked_s = min(answer.asked_s, LONGEST_ASKED_S)
        return max(pause_s, asked_s) * random.uniform(1.0, 1.0 + JITTER)

    def _say_away(self, error: BaseException | None) -> None:
        """Once when trouble begins, and once when it is over."""
        if error is None:
            if self._away:
                log.info("webhooks are sent again")
            self._away = False
            return
        if not isinstance(error, _TROUBLE):
            log.error("a webhook was not sent: this is a bug", exc_info=error)
        elif not self._away:
            self._away = True
            log.warning("webhooks wait until Redis answers again: %s", type(error).__name__)


def _share_of(one: WebhookEvent) -> Share:
    return host_of(one.url) or "no host", tenant_of(one.id, one.kind)
