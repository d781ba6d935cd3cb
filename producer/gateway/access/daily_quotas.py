"""Daily quotas of API keys: items that they submit, and bytes of the bodies that they send.

The counts are in Redis, shared by all gateways, and begin anew at midnight (UTC).
"""

from __future__ import annotations

from typing import Final, Literal

import redis

from ...connection.connect import redis_errors
from ...ledger.keys import Keys
from .key_policy import KeyPolicy

QuotaUnit = Literal["items", "bytes"]
#: Takes up to an amount from the quota of a day; a negative amount returns it. KEYS: the counts of
#: a key; ARGV: unit, amount, limit. Returns the taken amount, the count and the seconds until
#: midnight.
_TAKE: Final = """
local time = tonumber(redis.call('TIME')[1])
local day = string.format('%d', math.floor(time / 86400))
local stored = redis.call('HMGET', KEYS[1], 'day', ARGV[1])
if stored[1] ~= day then
  redis.call('DEL', KEYS[1])
  stored[2] = nil
end
local count, amount = tonumber(stored[2] or 0), tonumber(ARGV[2])
local taken = math.max(amount, -count)
if amount > 0 then taken = math.max(0, math.min(amount, tonumber(ARGV[3]) - count)) end
if taken ~= 0 then
  redis.call('HSET', KEYS[1], 'day', day, ARGV[1], string.format('%d', count + taken))
  redis.call('EXPIRE', KEYS[1], 2 * 86400)
end
return { taken, count + taken, 86400 - time % 86400 }
"""


class DailyQuotas:
    """The counts of one deployment. Its methods raise ConnectionFailed, and block."""

    def __init__(self, client: redis.Redis, keys: Keys, redis_url: str) -> None:
        self._script = client.register_script(_TAKE)
        self._keys = keys
        self._redis_url = redis_url

    def take(
        self, key_id: str, unit: QuotaUnit, amount: int, limit: int = 0
    ) -> tuple[int, int, int]:
        """Take up to an amount within the limit of a day, or return a negative amount.

        Return the taken amount, the count of the day, and the seconds until its end.
        """
        name = self._keys.daily_usage(key_id)
        with redis_errors(self._redis_url):
            taken, count, rest_s = self._script(keys=[name], args=[unit, amount, limit])
        return int(taken), int(count), int(rest_s)


def daily_limit(policy: KeyPolicy, unit: QuotaUnit) -> int | None:
    """Return the limit of a key in a unit; None if it has none."""
    if unit == "items":
        return policy.items_per_day
    return None if policy.mb_per_day is None else policy.mb_per_day << 20
