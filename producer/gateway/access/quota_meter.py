"""Meters of requests, which count items and bytes towards the daily quotas of their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ...errors import BliplineError
from ...ledger.submission import SubmissionInterrupted
from ..http.logs import LOGGER
from ..http.problems import Problem
from ..http.redis_calls import RedisCalls
from .daily_quotas import DailyQuotas, QuotaUnit, daily_limit
from .tenants import Tenant

#: Maximum amounts that a request takes ahead of its use; it gives back the rest.
BLOCKS: Final[dict[QuotaUnit, int]] = {"items": 32, "bytes": 1 << 20}


class QuotaMeter:
    """A count of what one request uses.

    It takes ahead at most as much as it has used, so that concurrent requests find the rest.
    """

    def __init__(self, quotas: DailyQuotas, key_id: str, unit: QuotaUnit, limit: int) -> None:
        self._quotas = quotas
        self._key_id = key_id
        self._unit = unit
        self._limit = limit
        self._taken = 0
        self._counted = 0

    @property
    def taken(self) -> int:
        """The amount to settle."""
        return self._taken

    def count(self, amount: int) -> None:
        """Use an amount; raises DailyQuotaExceeded if the quota of the day is used up."""
        while self._taken < self._counted + amount:
            needed = self._counted + amount - self._taken
            missing = max(needed, min(self._taken, BLOCKS[self._unit]))
            taken, _, rest_s = self._quotas.take(self._key_id, self._unit, missing, self._limit)
            if not taken:
                raise DailyQuotaExceeded(self._unit, self._limit, rest_s)
            self._taken += taken
        self._counted += amount

    def settle(self, used: int | None = None) -> None:
        """Return what was taken beyond the used amount, by default all that was counted."""
        surplus = self._taken - (self._counted if used is None else used)
        self._taken = self._counted = 0
        if surplus > 0:
            self._quotas.take(self._key_id, self._unit, -surplus)


class DailyQuotaExceeded(Problem, SubmissionInterrupted):
    """A request exceeds the daily quota of its key; the items of an upload before it are kept."""

    def __init__(self, unit: QuotaUnit, limit: int, rest_s: int) -> None:
        amount = f"{limit:,} items" if unit == "items" else f"{limit >> 20:,} MiB"
        super().__init__(
            "daily_quota_exceeded",
            f"This API key has used its {amount} of today (UTC): try again after midnight, or "
            "raise the quota with `blipline keys limit`",
            retry_after_s=rest_s,
            # OpenAI's libraries would repeat the request at once.
            headers={"x-should-retry": "false"},
        )


@asynccontextmanager
async def counted_item(
    quotas: DailyQuotas, calls: RedisCalls, tenant: Tenant
) -> AsyncIterator[None]:
    """Count an item that the block submits unless it fails; raises DailyQuotaExceeded."""
    if (meter := meter_of(quotas, tenant, "items")) is None:
        yield
        return
    used = 0
    try:
        await calls.run(meter.count, 1)
        yield
        used = 1
    finally:
        await settle(meter, calls, used)


async def settle(meter: QuotaMeter, calls: RedisCalls, used: int | None = None) -> None:
    """Return what a request has not used; log an error, which must not replace its response."""
    if not meter.taken:
        return
    try:
        await calls.run(meter.settle, used)
    except BliplineError as error:
        LOGGER.warning("the unused quota of a request remains taken until midnight: %s", error)


def meter_of(quotas: DailyQuotas, tenant: Tenant, unit: QuotaUnit) -> QuotaMeter | None:
    """Return the meter of a request; None if its key has no such quota."""
    limit = daily_limit(tenant.policy, unit)
    return None if limit is None else QuotaMeter(quotas, tenant.key_id, unit, limit)
