"""How many requests each API key may make, counted in Redis, so that gateways share the counts."""

from __future__ import annotations

import asyncio
import copy
import time
from dataclasses import dataclass
from itertools import takewhile
from math import ceil
from typing import Final

import redis
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from ..errors import QueueFull
from ..ledger.keys import Keys
from .redis_calls import RedisCalls

#: Seconds for which a refusal is repeated without asking Redis, at most.
REFUSED_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class RateDecision:
    """What a key may do."""

    granted: bool
    #: Requests in a minute, and those that are left now.
    limit: int
    left: int
    #: Seconds until there is more.
    more_s: float

    @property
    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers has them."""
        more_s = ceil(max(self.more_s, 0.0))
        return {
            "RateLimit-Policy": f'"minute";q={self.limit};w=60',
            "RateLimit": f'"minute";r={self.left};t={more_s}',
        }

    @property
    def retry_after_s(self) -> int:
        """Seconds after which it is worth trying again."""
        return max(1, ceil(self.more_s))


class RateLimiter:
    """A window that slides: two counters a key, whatever the limit.

    The library opens connections in its own way; it takes ours, so Sentinel, TLS and what gets
    over a failover are as everywhere (producer/connection.py).
    """

    def __init__(self, client: redis.Redis, keys: Keys, per_minute: int, calls: RedisCalls) -> None:
        self.per_minute = per_minute
        self._calls = calls
        self._item = RateLimitItemPerMinute(per_minute)
        # The URL is not used where there is a pool.
        storage = RedisStorage(
            "redis://", connection_pool=client.connection_pool, key_prefix=keys.rates
        )
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._refused: dict[str, tuple[float, RateDecision]] = {}
        #: Requests to be counted, by their key; those of one moment are counted together.
        self._waiting: dict[str, list[asyncio.Future[RateDecision]]] = {}
        self._counting: set[asyncio.Task[None]] = set()

    async def take(self, key_id: str) -> RateDecision:
        """Count a request, if there is room for it. Raises ConnectionFailed."""
        until, refusal = self._refused.get(key_id, (0.0, None))
        if refusal is not None and until > time.monotonic():
            return refusal
        future: asyncio.Future[RateDecision] = asyncio.get_running_loop().create_future()
        if key_id in self._waiting:
            self._waiting[key_id].append(future)
        else:
            self._waiting[key_id] = [future]
            counting = asyncio.create_task(self._count(key_id))
            self._counting.add(counting)
            counting.add_done_callback(self._counting.discard)
        return await future

    async def _count(self, key_id: str) -> None:
        """Until nobody waits; meanwhile others come to wait, however many there are."""
        while waiting := self._waiting[key_id]:
            self._waiting[key_id] = []
            try:
                allowances = await self._calls.run(self._take, key_id, len(waiting))
            except QueueFull:
                # Nothing can be written: not to count is better than to hold up who reads.
                allowances = [RateDecision(True, self.per_minute, 0, 0.0)] * len(waiting)
            except Exception as error:
                for future in waiting:
                    if not future.done():
                        # Each raises one with a traceback of its own.
                        future.set_exception(copy.copy(error))
                continue
            self._remember(key_id, allowances[-1])
            for future, allowance in zip(waiting, allowances, strict=True):
                if not future.done():
                    future.set_result(allowance)
        del self._waiting[key_id]

    def _remember(self, key_id: str, last: RateDecision) -> None:
        self._refused.pop(key_id, None)
        if not last.granted:
            until = time.monotonic() + min(last.more_s, REFUSED_S)
            self._refused[key_id] = (until, last)

    def _take(self, key_id: str, requests: int) -> list[RateDecision]:
        granted = requests
        if not self._limiter.hit(self._item, key_id, cost=requests):
            singly = (self._limiter.hit(self._item, key_id) for _ in range(requests))
            granted = 0 if requests == 1 else sum(takewhile(bool, singly))
        stats = self._limiter.get_window_stats(self._item, key_id)
        more_s = stats.reset_time - time.time()
        yes = RateDecision(True, self.per_minute, stats.remaining, more_s)
        no = RateDecision(False, self.per_minute, 0, more_s)
        return [yes] * granted + [no] * (requests - granted)
