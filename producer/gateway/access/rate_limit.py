"""A rate limiter per API key; the counts are in Redis, shared by all gateways."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from math import ceil
from typing import Final

import redis
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from ...aio.batching import Batcher, unwrap
from ...errors import QueueFull
from ...ledger.keys import Keys
from ..http.redis_calls import RedisCalls

#: Maximum seconds for which a rejection is cached.
REJECTION_TTL_S: Final = 1.0
#: Maximum requests of a key that one call to Redis counts.
MAX_COUNTED: Final = 1024


@dataclass(frozen=True, slots=True)
class RateDecision:
    """The decision of the rate limiter about one request."""

    granted: bool
    #: Maximum requests per minute, and the remaining requests.
    limit: int
    remaining: int
    #: Seconds until more requests are allowed.
    reset_s: float

    @property
    def headers(self) -> dict[str, str]:
        """Headers of draft-ietf-httpapi-ratelimit-headers."""
        reset_s = ceil(max(self.reset_s, 0.0))
        return {
            "RateLimit-Policy": f'"minute";q={self.limit};w=60',
            "RateLimit": f'"minute";r={self.remaining};t={reset_s}',
        }

    @property
    def retry_after_s(self) -> int:
        """Seconds until a retry may succeed."""
        return max(1, ceil(self.reset_s))


class RateLimiter:
    """A sliding-window rate limiter; each key has two counters, regardless of the limit.

    The `limits` library uses the pool of this process's Redis client, so that Sentinel, TLS and
    failover work as elsewhere (`producer/connection`).
    """

    def __init__(self, client: redis.Redis, keys: Keys, per_minute: int, calls: RedisCalls) -> None:
        #: The limit of keys without a rate of their own; 0 means unlimited.
        self.per_minute = per_minute
        self._calls = calls
        # The URL is ignored when there is a pool.
        storage = RedisStorage(
            "redis://", connection_pool=client.connection_pool, key_prefix=keys.rates
        )
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        #: Rejections by key, and when each expires.
        self._rejections: dict[str, tuple[float, RateDecision]] = {}
        #: Batchers by key and limit: concurrent requests are counted in one call.
        self._batchers: dict[tuple[str, int], Batcher[None, RateDecision]] = {}

    async def acquire(self, key_id: str, per_minute: int | None = None) -> RateDecision:
        """Count a request if the limit allows it: that of the gateway unless given.

        Raises ConnectionFailed.
        """
        limit = self.per_minute if per_minute is None else per_minute
        expires, rejection = self._rejections.get(key_id, (0.0, None))
        if rejection is not None and expires > time.monotonic():
            return rejection
        batcher = self._batchers.get((key_id, limit))
        if batcher is None or not batcher.running:
            batcher = Batcher(partial(self._count, key_id, limit), MAX_COUNTED)
            self._batchers[key_id, limit] = batcher
            batcher.start()
        return unwrap(await batcher.add(None))

    async def _count(
        self, key_id: str, limit: int, requests: Sequence[None]
    ) -> Sequence[RateDecision | Exception]:
        try:
            decisions = await self._calls.run(self._acquire, key_id, limit, len(requests))
        except QueueFull:
            # Redis rejects writes. Uncounted requests are better than blocked readers.
            decisions = [RateDecision(True, limit, 0, 0.0)] * len(requests)
        except Exception as error:
            return [error] * len(requests)
        self._cache_rejection(key_id, decisions[-1])
        return decisions

    def _cache_rejection(self, key_id: str, last: RateDecision) -> None:
        self._rejections.pop(key_id, None)
        if not last.granted:
            expires = time.monotonic() + min(last.reset_s, REJECTION_TTL_S)
            self._rejections[key_id] = (expires, last)

    def _acquire(self, key_id: str, limit: int, requests: int) -> list[RateDecision]:
        granted, item = requests, RateLimitItemPerMinute(limit)
        if not self._limiter.hit(item, key_id, cost=requests):
            singly = (self._limiter.hit(item, key_id) for _ in range(requests))
            granted = 0 if requests == 1 else sum(takewhile(bool, singly))
        stats = self._limiter.get_window_stats(item, key_id)
        reset_s = stats.reset_time - time.time()
        accepted = RateDecision(True, limit, stats.remaining, reset_s)
        rejected = RateDecision(False, limit, 0, reset_s)
        return [accepted] * granted + [rejected] * (requests - granted)
