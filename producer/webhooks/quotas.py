"""Quotas of webhooks in flight, so that slow hosts and busy tenants leave capacity for others."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Final

#: Maximum webhooks that are claimed and not settled: in total, per host and per tenant.
MAX_IN_FLIGHT: Final = 64
MAX_HOST_IN_FLIGHT: Final = 16
MAX_TENANT_IN_FLIGHT: Final = 32
#: Rate at which deferred webhooks of one host become due again, per second, at random times.
DEFERRED_RATE: Final = 100
#: Bounds of a deferral, in seconds.
MIN_DEFERRAL_S: Final = 0.1
MAX_DEFERRAL_S: Final = 60.0

#: Host and tenant of a webhook.
QuotaKey = tuple[str, str]


class DeliveryQuotas:
    """The numbers of webhooks in flight per host and tenant; thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._in_flight: Counter[QuotaKey] = Counter()
        #: Deferrals of each host since it last had no webhook in flight.
        self._deferrals: Counter[str] = Counter()

    @property
    def in_flight(self) -> int:
        with self._changed:
            return self._in_flight.total()

    @property
    def free(self) -> int:
        return MAX_IN_FLIGHT - self.in_flight

    def acquire(self, key: QuotaKey) -> float | None:
        """Count a webhook as in flight; return the seconds to defer it if a quota is exhausted."""
        host, tenant = key
        with self._changed:
            if (
                self._count_at(0, host) < MAX_HOST_IN_FLIGHT
                and self._count_at(1, tenant) < MAX_TENANT_IN_FLIGHT
            ):
                self._in_flight[key] += 1
                return None
            self._deferrals[host] += 1
            within_s = min(self._deferrals[host] / DEFERRED_RATE, MAX_DEFERRAL_S)
            return random.uniform(MIN_DEFERRAL_S, MIN_DEFERRAL_S + within_s)

    def release(self, key: QuotaKey) -> None:
        host, _ = key
        with self._changed:
            self._in_flight[key] -= 1
            self._in_flight += Counter()
            if not self._count_at(0, host):
                del self._deferrals[host]
            self._changed.notify_all()

    def wait_until_idle(self, timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._in_flight, timeout_s)

    def _count_at(self, position: int, value: str) -> int:
        return sum(count for key, count in self._in_flight.items() if key[position] == value)
